# Ref: docs/hardware/rocket.md §4.1 (how inputs are converted), §5.4
"""Strategy `mesa`: a graph to the convolutions that Mesa 26.2.6 makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from teflon.errors import LimitExceeded, UnsupportedOperation
from teflon.ir.graph import Graph, Value
from teflon_common.layout import LANES
from teflon_rocket.chips import Chip
from teflon_rocket.mesa.hosts import Host, hosts
from teflon_rocket.mesa.rules import RULES, Lowering
from teflon_rocket.mesa.veto import veto
from teflon_rocket.operations.convolution import Convolution
from teflon_rocket.operations.data import Feature


def lower(graph: Graph, chip: Chip) -> list[Convolution]:
    """Return Mesa's convolutions.

    Raises UnsupportedOperation for what Mesa does not take or would crash on, LimitExceeded where
    it would not end.
    """
    for op in graph.ops:
        if broken := RULES.reasons(op, chip):
            raise UnsupportedOperation(op.title, broken)
    for op, reason in veto(graph).items():
        raise UnsupportedOperation(op.title, [reason])
    found = hosts(graph)
    state = Lowering(chip, _features(graph, found.values()), found)
    operations = [one for op in graph.ops for one in RULES.lowering(op)(op, state)]
    for one in operations:
        if not one.tasks:
            raise LimitExceeded(
                "Mesa splits for ever, a kernel's rows must fit the convolution buffer"
                " (strategy exact can)",
                where=one.name,
            )
    return operations


def _features(graph: Graph, found: Iterable[Host]) -> dict[Value, Feature]:
    """Return a feature map per tensor; graph inputs are converted for their first reader."""
    features: dict[Value, Feature] = {}
    for host in found:
        for value in (host.op.input, host.result, host.operand):
            if value is not None and value not in features:
                features[value] = _feature(value, graph, host)
    return features


def _feature(value: Value, graph: Graph, host: Host) -> Feature:
    _, outer, inner, channels = value.shape
    zero = value.type.zero_point & 0xFF
    shape = (1, outer, inner, channels)
    feature = Feature(value.name, shape, value, "surfaces", 0x80, zero ^ 0x80)
    if channels > 1 or value not in graph.inputs or value is not host.op.input:
        return feature
    layout = "rows" if host.result.shape[3] > 1 or host.in_addition else "unset"
    row = max(inner, LANES)
    return dataclasses.replace(feature, layout=layout, flip=0, fill=zero, row_bytes=row)
