"""Graphs that move elements: compiled by strategy `exact`, run on the strict simulator, compared
with the IR's own arithmetic.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.pipe import Context
from teflon_etnaviv.chips import chip
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.rules import RULES
from teflon_etnaviv.operations import Operation
from tests.rocket.grid import random_inputs
from tests.rocket.moved import Make, convolved, graph_of, image

__all__ = ["Make", "convolved", "difference", "graph_of", "image", "kinds", "operations", "reasons"]


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


def through_planes(b: Builder, x: Value) -> Value:
    """The same map behind a convolution, so that it lies in planes."""
    return convolved(b, x, x.shape[3], 7)
