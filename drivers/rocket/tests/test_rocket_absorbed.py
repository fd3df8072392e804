"""What strategy `exact` says of operations that are done together is what it does, and what
comparisons go by.
"""

from __future__ import annotations

import numpy as np
import pytest

from teflon.inspect.compare import compare
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from tests.rocket.grid import DEVICE, random_inputs
from tests.rocket.moved import graph_of, image, operations


def network(kind: str) -> Graph:
    """A convolution and what reads it; its results stay within their range."""

    def make(b: Builder) -> None:
        x = image(b, (1, 5, 7, 16))
        weights = np.random.default_rng(0).integers(-9, 10, (16, 1, 1, 16)).astype(np.int8)
        scales = [0.02 + 0.001 * n for n in range(16)] if kind == "per channel" else 0.02
        y = b.conv2d(x, weights, weight_scale=scales, scale=0.25, zero_point=3)
        if kind == "bent":
            b.output(b.leaky_relu(y, 0.25))
        else:
            b.output(b.add(y, y if kind == "twice" else x, scale=0.3, zero_point=0))

    return graph_of(make)


LAYERS = {
    "added": [("CONV_2D", "ADD")],
    "bent": [("CONV_2D", "LEAKY_RELU")],
    "per channel": [("CONV_2D",), ("ADD",)],
    "twice": [("CONV_2D",), ("ADD",)],
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_are_what_runs(kind: str) -> None:
    graph = network(kind)
    found = compare(graph, random_inputs(np.random.default_rng(1), graph), "sim:rk3588")
    names = [tuple(title.split()[0] for title in layer.ops) for layer in found.layers]
    assert names == LAYERS[kind]
    assert found.worst <= 1
    assert len(operations(graph)) == len(names)
    fused = len(names) == 1
    assert list(DEVICE.absorbed(graph) or ()) == list(graph.ops[0].results[:fused])
