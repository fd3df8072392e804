"""What Mesa 26.2.6 is known to get wrong, operation by operation; strategy `mesa` keeps it.

Here are mistakes that one operation shows by itself, in `shared_doubts.py` those with tensors that
several operations share. What depends on values (B2) is not named.
"""

from __future__ import annotations

from teflon.ir.graph import Graph, Op
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, Sub
from teflon.ir.types import DType
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.mesa.shared_doubts import of_partition

# Ref: docs/hardware/etnaviv.md sections 7.2, 10.2, 10.3

_CURE = "(strategy exact computes it right)"
_LARGE = 7
_SPLIT = 5


def doubts(op: Op, graph: Graph, chip: Chip) -> list[str]:
    """Return what comes out wrong of an operation, with the number of Mesa's mistake.

    graph: the partition that it is in.
    """
    found = []
    if not chip.huffman:
        found += _v7(op)
    if isinstance(op, Conv2D | DepthwiseConv2D):
        found += _convolution(op, chip)
    found += of_partition(graph, chip).get(op, ())
    return [f"{text} {_CURE}" for text in found]


def _v7(op: Op) -> list[str]:
    found = []
    if any(v.type.dtype is DType.INT8 for v in op.inputs_present[:2]):
        found.append("int8 is streamed with a shifted zero point, Mesa's B8")
    if isinstance(op, Sub):
        found.append("subtraction adds, Mesa's B9")
    if isinstance(op, Conv2D) and op.stride == (1, 1) and op.weights.shape[2:] == (_SPLIT, 1):
        found.append("columns of 5x5 kernels of one channel are not always split, section 7.2")
    if isinstance(op, FullyConnected):
        found.append(
            "fully connected kernels of several planes are written in another order, Mesa's B19"
        )
    return found


def _convolution(op: Conv2D | DepthwiseConv2D, chip: Chip) -> list[str]:
    found = []
    _, rows, columns, _ = op.input.shape
    height, width = op.weights.shape[1:3]
    before = op.padding.top or op.padding.left
    if height != width:
        found.append("height and width of the kernel are exchanged, Mesa's B6")
    if rows != columns and op.stride != (1, 1):
        found.append(
            "height and width of a strided map that is not square are exchanged, Mesa's B18"
        )
    if before and max(height, width) >= _LARGE:
        found.append("kernels of 7 and more begin at a wrong offset, Mesa's B17")
    odd = rows % 2 and (rows > _SPLIT or (height == _SPLIT and not chip.huffman))
    if isinstance(op, DepthwiseConv2D) and op.stride != (1, 1) and before and odd:
        found.append("strided depthwise layers of odd size begin at a wrong offset, Mesa's B5")
    return found
