"""Strategy `exact`: from a graph to operations that compute it."""

from __future__ import annotations

from teflon.ir.graph import Graph, Value
from teflon.ir.types import DType
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.encode import DoesNotFit
from teflon_rocket.exact.rules import RULES
from teflon_rocket.exact.rules.additions import sums
from teflon_rocket.exact.rules.convolutions import rows_of_bytes
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.state import Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature


def lower(graph: Graph, chip: Chip) -> list[Operation]:
    """Return the operations that compute a graph, in the order in which they run.

    The graph's own operations must break no rule. Raises LimitExceeded where the numbers of one
    cannot be expressed, or no tasks of it fit.
    """
    features, added = surfaces(graph), sums(graph)
    if rows := rows_of_bytes(graph, features):
        try:
            return _lower(graph, Lowering(chip, {**features, **rows}, added))
        except DoesNotFit:  # rows of bytes cannot be cut into pieces
            pass
    return _lower(graph, Lowering(chip, features, added))


def _lower(graph: Graph, state: Lowering) -> list[Operation]:
    return [
        operation
        for op in graph.ops
        if op not in state.hosts
        for operation in RULES.lowering(op)(op, state)
    ]


def surfaces(graph: Graph) -> dict[Value, Feature]:
    """Return a feature map of surfaces for every value that is computed."""
    found: dict[Value, Feature] = {}
    for value in graph.values:
        if not value.is_constant and value not in found:
            flip = 0x80 if value.type.dtype is DType.UINT8 else 0
            zero = Affine.of(value.type).zero & 0xFF
            shape = image_shape(value.shape)
            found[value] = Feature(value.name, shape, value, "surfaces", flip, zero ^ 0x80)
    return found
