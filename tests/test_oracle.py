"""The oracle itself."""

from __future__ import annotations

import numpy as np
import pytest

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
