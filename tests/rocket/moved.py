"""Graphs that move elements: compiled by strategy `exact`, run on the strict simulator, compared
with the IR's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.lower import lower
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature
from tests.rocket.grid import DEVICE, random_inputs

Make = Callable[[Builder], object]


def graph_of(make: Make) -> Graph:
    b = Builder("moved")
    make(b)
    return b.build()


def operations(graph: Graph) -> list[Operation]:
    """What a graph is on the device."""
    return lower(graph, RK3588).operations


def reasons(graph: Graph) -> list[str]:
    return [reason for op in graph.ops for reason in DEVICE.unsupported(op, graph)]


def results(context: RocketContext, graph: Graph, seed: int = 0) -> list[Array]:
    """What the device makes of random inputs."""
    assert reasons(graph) == []
    inputs = random_inputs(np.random.default_rng(seed), graph)
    with closing(context.load(DEVICE.compile(graph))) as loaded:
        return context.invoke(loaded, inputs)


def difference(context: RocketContext, graph: Graph, seed: int = 0) -> int:
    """Greatest difference of an output from the reference's, in steps."""
    found = results(context, graph, seed)
    wanted = interpreter.run(graph, random_inputs(np.random.default_rng(seed), graph))
    pairs = zip(found, wanted, strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max(initial=0)) for a, b in pairs)


def image(b: Builder, shape: Sequence[int], dtype: str = "i8", name: str = "x") -> Value:
    """An input on a scale that all of them share."""
    return b.input(name, dtype, tuple(shape), scale=0.1, zero_point=3)


def convolved(b: Builder, x: Value, channels: int, seed: int, size: int = 1) -> Value:
    """A convolution with random weights, on the input's scale."""
    random = np.random.default_rng(seed)
    shape = (channels, size, size, x.shape[3])
    unsigned = x.type.dtype.value == "u8"
    data = random.integers(-9, 10, shape) + (128 if unsigned else 0)
    return b.conv2d(
        x, data.astype(np.uint8 if unsigned else np.int8), weight_scale=0.02,
        weight_zero_point=128 if unsigned else 0, scale=0.1, zero_point=3, padding="same",
    )  # fmt: skip


def overwritten(operations: Sequence[Operation]) -> list[str]:
    """Name the operations that write, behind the surfaces of their result, pixels of a map that
    another one has written before.
    """
    before: dict[Feature, list[tuple[int, int]]] = {}
    found = []
    for operation in operations:
        for feature in operation.writes:
            own = feature.surfaces
            spilled = _pieces(feature, range(own, operation.surfaces(feature)))
            earlier = before.setdefault(feature.root, [])
            if any(a < end and begin < b for begin, end in spilled for a, b in earlier):
                found.append(operation.name)
            earlier += _pieces(feature, range(own))
    return found


def _pieces(feature: Feature, surfaces: range) -> list[tuple[int, int]]:
    """The bytes of some surfaces of a map's first image, from the beginning of the whole map."""
    size = feature.shape[1] * feature.shape[2] * 16
    begins = (feature.start + number * feature.surface_bytes for number in surfaces)
    return [(begin, begin + size) for begin in begins]
