"""Where the channels of a tensor may lie in any order, at no cost."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Abs,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    ExpandDims,
    FullyConnected,
    Logistic,
    MaxPool2D,
    Mean,
    Pad,
    Quantize,
    ReduceMax,
    Relu,
    Reshape,
    ResizeBilinear,
    Squeeze,
)
from teflon_etnaviv.exact.copies import Copying, copies

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
    if isinstance(op, Copying):
        found = list(copies(op))
        alone = len({copy.source for copy in found}) == 1 or found[-1].channel != 0
        kept = alone and all(copy.channel is not None for copy in found)
        return kept and all(is_free(result, graph) for result in op.results)
    if isinstance(op, ResizeBilinear) or (
        isinstance(op, Pad) and op.before[-1] == op.after[-1] == 0
    ):
        return is_free(op.results[0], graph)
    if isinstance(op, Reshape | Squeeze | ExpandDims):
        return op.output.shape[-1] == value.shape[-1] and is_free(op.output, graph)
    if isinstance(op, FullyConnected):
        return op.weights.shape[-1] == value.type.size
    if isinstance(op, DepthwiseConv2D):
        return op.output.shape[3] == value.shape[3]
    return isinstance(op, Conv2D)
