"""Where the channels of a tensor may lie in any order, at no cost or next to none."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Mul,
    ReduceMax,
    Reshape,
    Sub,
    Transpose,
)
from teflon_etnaviv.exact import channels, functions
from teflon_etnaviv.exact.grouping.joined import CHANNELS_MOST

_POOLS = (MaxPool2D, AveragePool2D, Mean, ReduceMax)


def is_free(value: Value, graph: Graph) -> bool:
    """Whether nobody who reads a value needs its channels in their own order.

    An output is copied by the host, which permutes on the way. Of what lowering makes between
    operations nothing is known.
    """
    if graph.producer(value) is None:
        return False
    return all(_takes_any(op, value, graph) for op in graph.users(value))


def _takes_any(op: Op, value: Value, graph: Graph) -> bool:
    one_pixel = value.type.size == value.shape[-1]
    if isinstance(op, Reshape):
        keeps = one_pixel and op.output.shape[-1] == value.shape[-1]
        return keeps and is_free(op.output, graph)
    if isinstance(op, FullyConnected):
        return one_pixel and op.weights.shape[-1] == value.shape[-1]
    if isinstance(op, DepthwiseConv2D):
        return op.output.shape[3] == value.shape[3]
    if isinstance(op, Conv2D | Transpose):
        return isinstance(op, Conv2D)
    if isinstance(op, _POOLS) or functions.operand(op) is value:
        return is_free(op.results[0], graph)
    if isinstance(op, Add | Sub | Mul) and channels.pair(op) is not None:
        return is_free(op.output, graph)
    both = isinstance(op, Add | Sub) and op.a.shape == op.b.shape
    return both and 1 < value.shape[-1] <= CHANNELS_MOST
