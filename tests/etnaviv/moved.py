"""Graphs that move elements: compiled by strategy `exact`, run on the strict simulator, compared
with the IR's own arithmetic.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from teflon.ir import interpreter, ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.pipe import Context
from teflon_etnaviv.chips import chip
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.rules import RULES
from teflon_etnaviv.operations import Operation
from tests.rocket.grid import Random, random_inputs
from tests.rocket.moved import Make, convolved, graph_of, image

__all__ = [
    "Make", "convolved", "difference", "graph_of", "image", "kinds", "operations", "rearranged",
    "reasons", "through_planes",
]  # fmt: skip


def operations(graph: Graph, name: str = "a311d") -> list[Operation]:
    """What a graph is on the device."""
    return list(Lowering(graph, chip(name)).run(RULES).operations)


def kinds(graph: Graph, name: str = "a311d") -> list[str]:
    """The kinds of a graph's operations on the device."""
    return [op.detail or op.unit for op in operations(graph, name)]


def reasons(graph: Graph, name: str = "a311d") -> list[str]:
    return [reason for op in graph.ops for reason in RULES.reasons(op, chip(name))]


def difference(context: Context, graph: Graph, seed: int = 0) -> int:
    """Greatest difference of an output from the reference's, in steps."""
    device = context.device
    assert [reason for op in graph.ops for reason in device.unsupported(op, graph)] == []
    inputs = random_inputs(np.random.default_rng(seed), graph)
    with closing(context.load(device.compile(graph))) as loaded:
        found = context.invoke(loaded, inputs)
    wanted = interpreter.run(graph, inputs)
    pairs = zip(found, wanted, strict=True)
    return max(int(np.abs(a.astype(int) - b.astype(int)).max(initial=0)) for a, b in pairs)


def rearranged(b: Builder, random: Random, x: Value) -> Value:
    """The elements of a map, some of them, or more of the same, at other places."""
    _, height, width, channels = x.shape
    small = height < 10 and width < 10
    kinds = ["slice", "step", "exchange", "last first", "join", "pack"]
    kinds += ["nearest", "bilinear", "mirror"] if small and min(height, width) > 1 else []
    kinds += ["blocks"] if height % 2 == width % 2 == 0 and channels < 64 else []
    kinds += ["spread"] if channels % 4 == 0 and small else []
    kind = str(random.choice(kinds))
    if kind in ("slice", "step"):
        begin = (0, *(int(random.integers(n)) for n in x.shape[1:]))
        strides = (1, *(int(random.integers(1, 3)) for _ in "hwc")) if kind == "step" else (1,) * 4
        return b.strided_slice(x, begin=begin, end=x.shape, strides=strides)
    if kind in ("exchange", "last first"):
        return b.transpose(x, (0, 2, 1, 3) if kind == "exchange" else (0, 3, 1, 2))
    if kind == "join":
        return b.concatenation([x, x], axis=int(random.integers(1, 3)) if small else 3)
    if kind == "pack":
        return b.reshape(b.pack(b.unpack(x, axis=2), axis=1), (1, width, height, channels))
    if kind == "nearest":
        return b.resize_nearest_neighbor(x, (2 * height, 2 * width))
    if kind == "bilinear":
        return b.resize_bilinear(x, (2 * height, 2 * width), half_pixel_centers=True)
    if kind == "mirror":
        return b.op(ops.MirrorPad, input=x, before=(0, 1, 0, 0), after=(0, 1, 1, 0), reflect=True)
    if kind == "blocks":
        return b.op(ops.SpaceToDepth, input=x, block=2)
    return b.op(ops.DepthToSpace, input=x, block=2)


def through_planes(b: Builder, x: Value) -> Value:
    """The same map behind a convolution, so that it lies in planes."""
    return convolved(b, x, x.shape[3], 7)
