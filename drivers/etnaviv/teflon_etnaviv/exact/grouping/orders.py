"""Where the channels of a tensor may lie in any order, at no cost."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Abs,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Logistic,
    MaxPool2D,
    Mean,
    Quantize,
    ReduceMax,
    Relu,
    Reshape,
)

_EACH_ALONE = (
    Relu, Abs, Logistic, Quantize, MaxPool2D, AveragePool2D, Mean, ReduceMax,
)  # fmt: skip
"""Operations that compute each channel alone, in the order in which it finds them."""


def is_free(value: Value, graph: Graph) -> bool:
    """Whether nobody who reads a value needs its channels in their own order.

    An output is copied by the host, which permutes on the way. Of what lowering makes between
    operations nothing is known.
    """
    if graph.producer(value) is None:
        return False
    return all(_takes_any(op, value, graph) for op in graph.users(value))


def _takes_any(op: Op, value: Value, graph: Graph) -> bool:
    if isinstance(op, _EACH_ALONE):
        return is_free(op.results[0], graph)
    one_pixel = value.type.size == value.shape[-1]
    if isinstance(op, Reshape):
        keeps = one_pixel and op.output.shape[-1] == value.shape[-1]
        return keeps and is_free(op.output, graph)
    if isinstance(op, FullyConnected):
        return one_pixel and op.weights.shape[-1] == value.shape[-1]
    if isinstance(op, DepthwiseConv2D):
        return op.output.shape[3] == value.shape[3]
    return isinstance(op, Conv2D)
