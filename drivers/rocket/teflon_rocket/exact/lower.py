"""Strategy `exact`: from a graph to operations that compute it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon_rocket.chips import Chip
from teflon_rocket.exact.bends import bends
from teflon_rocket.exact.encode import DoesNotFit
from teflon_rocket.exact.places import Places, default_feature
from teflon_rocket.exact.rules import RULES
from teflon_rocket.exact.rules.additions import sums
from teflon_rocket.exact.rules.convolutions import rows_of_bytes
from teflon_rocket.exact.state import Lowering, Sum, done_together
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature

_CONVOLUTIONS = Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv


class Lowered(NamedTuple):
    """Operations in the order in which they run, and the feature maps that are parts of others."""

    operations: list[Operation]
    parts: list[Feature]


def lower(graph: Graph, chip: Chip) -> Lowered:
    """Return the operations that compute a graph.

    The graph's own operations must break no rule. Raises LimitExceeded where the numbers of one
    cannot be expressed, or no tasks of it fit.
    """
    added = sums(graph)
    places = find_places(graph, added)
    state = Lowering(chip, places.features, added, places.gathered, bends(graph))
    if rows := rows_of_bytes(graph, places.features):
        try:
            return _lower(graph, dataclasses.replace(state, features={**state.features, **rows}))
        except DoesNotFit:  # rows of bytes cannot be cut into pieces
            pass
    return _lower(graph, state)


def hosts(graph: Graph) -> frozenset[Op]:
    """Return the operations that are done together with the one that reads their result."""
    return done_together(sums(graph), bends(graph))


def _lower(graph: Graph, state: Lowering) -> Lowered:
    operations = [
        operation
        for op in graph.ops
        if op not in state.hosts
        for operation in RULES.lowering(op)(op, state)
    ]
    return Lowered(operations, [f for f in state.features.values() if f.whole is not None])


def surfaces(graph: Graph, added: Mapping[Op, Sum]) -> dict[Value, Feature]:
    """Return a feature map of surfaces for every value that is computed."""
    return find_places(graph, added).features


def find_places(graph: Graph, added: Mapping[Op, Sum]) -> Places:
    """Return where all values that are computed lie.

    The surfaces of those that the DPU or the PPU reads or writes alone are whole 64 bytes.
    """

    def plain(value: Value) -> Feature:
        return default_feature(value, _meets_a_pass(graph, value, added))

    places = Places(graph, {op: found.host for op, found in added.items()}, plain)
    places.find()
    return places


def _meets_a_pass(graph: Graph, value: Value, added: Mapping[Op, Sum]) -> bool:
    """Whether anything but a convolution, or an addition that one does, reads or writes a value."""
    producer = graph.producer(value)
    around = (*graph.users(value), *(() if producer is None else (producer,)))
    return not all(isinstance(op, _CONVOLUTIONS) or op in added for op in around)
