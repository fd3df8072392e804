"""Compute operations whose operands are all constants, once, when the model is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.rewrite import replace_values, without

MOST_BYTES = 64 << 20
"""A result beyond this is computed at run time instead of being kept."""


def fold_constants(graph: Graph) -> Graph:
    """Replace results of constant operations by constants; what cannot be computed stays."""
    known: dict[Value, Value] = {}
    folded: set[Op] = set()
    for op in graph.ops:
        values = [known.get(v, v) if v is not None else None for v in op.operands]
        found = _computed(op, values)
        if found is not None:
            known.update(zip(op.results, found, strict=True))
            folded.add(op)
    return replace_values(without(graph, folded), known)


def constant_results(op: Op) -> tuple[Value, ...] | None:
    """Return the results of an operation as constants; None where it cannot be computed now."""
    return _computed(op, op.operands)


def _computed(op: Op, values: Sequence[Value | None]) -> tuple[Value, ...] | None:
    if not values or any(v is not None and v.data is None for v in values):
        return None
    if sum(v.type.size_bytes for v in op.results) > MOST_BYTES:
        return None
    try:
        results = op.evaluate(*(None if v is None else v.data for v in values))
    except UnsupportedOperation:
        return None
    found = []
    for value, data in zip(op.results, results, strict=True):
        array = np.asarray(data, order="C")  # keeps a scalar a scalar
        array.flags.writeable = False
        found.append(dataclasses.replace(value, data=array))
    return tuple(found)
