"""The oracle itself."""

from __future__ import annotations

import numpy as np
import pytest

from tests.counts import COUNTS, compare
from tests.oracle import Oracle, needs_oracle
from tests.paths import GOLDEN, needs_shared


@needs_shared
@needs_oracle
def test_outputs_and_intermediate_tensors_agree() -> None:
    assert GOLDEN is not None
    oracle = Oracle(GOLDEN / "models" / "conv2d.tflite", preserve=True)
    outputs = oracle.run(oracle.random_inputs())
    tensors = oracle.tensors()
    for detail, output in zip(oracle.outputs, outputs, strict=True):
        assert np.array_equal(tensors[detail["index"]], output)


@needs_oracle
def test_refuses_what_is_no_model() -> None:
    with pytest.raises(ValueError, match="valid Flatbuffer"):
        Oracle(b"not a model")


def test_comparing_sees_differences() -> None:
    want = np.array([1.0, np.nan, 3.0], np.float32)
    assert compare("self test", want.copy(), want) == 0
    assert compare("self test", np.array([1.0, 2.0, 4.0], np.float32), want) == 2
    with pytest.raises(TypeError, match="must be float32"):
        compare("self test", want.astype(np.float64), want)
    assert str(COUNTS.pop("self test")).split() == [
        "2",
        "cases",
        "6",
        "elements",
        "2",
        "mismatches",
    ]
