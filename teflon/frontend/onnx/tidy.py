"""Bring graphs into the form that TFLite files have."""

from __future__ import annotations

import dataclasses

from teflon.ir import Graph, Value, ops
from teflon.ir.lower import remove_dead
from teflon.ir.types import DType

_CARRIERS = (ops.Reshape, ops.Squeeze, ops.ExpandDims, ops.Transpose, ops.Slice)


def tidy(graph: Graph) -> Graph:
    """Let CONCATENATION of uint8 rescale its inputs itself, and drop what nobody reads."""
    made = [
        dataclasses.replace(op, inputs=tuple(_unscaled(graph, v) for v in op.inputs))
        if isinstance(op, ops.Concatenation) and op.output.type.dtype is DType.UINT8 else op
        for op in graph.ops
    ]  # fmt: skip
    return remove_dead(graph.with_ops(made))


def _unscaled(graph: Graph, value: Value) -> Value:
    """Return what a QUANTIZE read that made a value for one reader only.

    One behind an operation that computes is left: TFLite files have it there.
    """
    producer = graph.producer(value)
    if not isinstance(producer, ops.Quantize) or producer.input.type.dtype is not DType.UINT8:
        return value
    alone = len(graph.users(value)) == 1 and not graph.is_output(value)
    carried = isinstance(graph.producer(producer.input), _CARRIERS)
    return producer.input if alone and carried else value
