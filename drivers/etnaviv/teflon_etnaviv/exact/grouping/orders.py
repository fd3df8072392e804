"""Where the channels of a tensor may lie in any order, at no cost or next to none."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    ExpandDims,
    FullyConnected,
    MaxPool2D,
    Mean,
    Mul,
    Pad,
    ReduceMax,
    Reshape,
    ResizeBilinear,
    Squeeze,
    Sub,
)
from teflon_etnaviv.exact import channels, functions
from teflon_etnaviv.exact.copies import Copying, copies
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
    if isinstance(op, Conv2D):
        return True
    if isinstance(op, _POOLS) or functions.operand(op) is value:
        return is_free(op.results[0], graph)
    if isinstance(op, Add | Sub | Mul) and channels.pair(op) is not None:
        return is_free(op.output, graph)
    both = isinstance(op, Add | Sub) and op.a.shape == op.b.shape
    return both and 1 < value.shape[-1] <= CHANNELS_MOST
