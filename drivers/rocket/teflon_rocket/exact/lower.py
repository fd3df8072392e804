"""Strategy `exact`: from a graph to operations that compute it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.types import DType
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.encode import DoesNotFit
from teflon_rocket.exact.rules import RULES
from teflon_rocket.exact.rules.additions import sums
from teflon_rocket.exact.rules.convolutions import rows_of_bytes
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.state import Lowering, Sum
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature, whole_pitch

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
    features = surfaces(graph, added)
    if rows := rows_of_bytes(graph, features):
        try:
            return _lower(graph, Lowering(chip, {**features, **rows}, added))
        except DoesNotFit:  # rows of bytes cannot be cut into pieces
            pass
    return _lower(graph, Lowering(chip, features, added))


def _lower(graph: Graph, state: Lowering) -> Lowered:
    operations = [
        operation
        for op in graph.ops
        if op not in state.hosts
        for operation in RULES.lowering(op)(op, state)
    ]
    return Lowered(operations, [f for f in state.features.values() if f.whole is not None])


def surfaces(graph: Graph, added: Mapping[Op, Sum]) -> dict[Value, Feature]:
    """Return a feature map of surfaces for every value that is computed.

    The surfaces of those that the DPU or the PPU reads or writes alone are whole 64 bytes.
    """
    found: dict[Value, Feature] = {}
    for value in graph.values:
        if not value.is_constant and value not in found:
            flip = 0x80 if value.type.dtype is DType.UINT8 else 0
            zero = Affine.of(value.type).zero & 0xFF
            shape = image_shape(value.shape)
            pitch = whole_pitch(*shape[1:3]) if _meets_a_pass(graph, value, added) else 0
            found[value] = Feature(value.name, shape, value, "surfaces", flip, zero ^ 0x80, pitch)
    return found


def _meets_a_pass(graph: Graph, value: Value, added: Mapping[Op, Sum]) -> bool:
    """Whether anything but a convolution, or an addition that one does, reads or writes a value."""
    producer = graph.producer(value)
    around = (*graph.users(value), *(() if producer is None else (producer,)))
    return not all(isinstance(op, _CONVOLUTIONS) or op in added for op in around)
