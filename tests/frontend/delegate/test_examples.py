"""Every operation through the delegate: its options lie in the runtime's structs, not in a file."""

from __future__ import annotations

import numpy as np
import pytest

import teflon
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import interpreter as reference
from tests.frontend.delegate.test_delegate import delegated_nodes, interpreter, run
from tests.ir.examples import EXAMPLES
from tests.ir.helpers import random_inputs
from tests.oracle import needs_oracle

pytestmark = needs_oracle


@pytest.mark.parametrize("name", [n for n in EXAMPLES if not n.startswith("svdf")])
def test_examples_equal_the_direct_call(name: str) -> None:
    data = write(EXAMPLES[name].graph())
    made = interpreter(data, teflon.tflite_delegate("ai_edge_litert", device="cpu"))
    assert delegated_nodes(made) == 1
    assert len(made._get_ops_details()) == 1 + len(read(data).ops)
    graph = read(data)
    inputs = random_inputs(graph)
    for have, want in zip(run(made, inputs), reference.run(graph, inputs), strict=True):
        assert have.dtype == want.dtype
        np.testing.assert_array_equal(have, want)
