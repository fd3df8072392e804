# Ref: docs/hardware/rocket.md §5.1, §5.3, §10.1
"""What is known to come out wrong of operations that Mesa 26.2.6 takes."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.graph import Op
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D
from teflon.ir.types import DType


def doubts(op: Op) -> list[str]:
    """Return what will be wrong, as far as the operation alone shows it.

    Not here: a clamp before an addition, the pad value of odd channels. Those depend on numbers.
    """
    return [f"{text} (strategy exact computes it right)" for text in _wrong(op)]


def _wrong(op: Op) -> Iterator[str]:
    maps = [v for v in (*op.inputs_present[:2], *op.results) if not v.is_constant]
    if any(v.type.dtype is DType.INT8 for v in maps):
        yield "int8 is taken for uint8"
    if isinstance(op, Add) and op.output.shape[-1] == 1:
        yield "one channel at an addition is scaled by 0.988"
    if isinstance(op, Conv2D | DepthwiseConv2D):
        height, width = op.weights.shape[1:3]
        sides = {v.shape[1] == v.shape[2] for v in maps} | {height == width}
        if False in sides and max(height, width) > 1:
            yield "height and width are exchanged"
        if op.stride[0] != op.stride[1]:
            yield f"stride {op.stride} is taken for one number"
        if op.input.shape[3] == op.output.shape[3] == 1:
            yield "a map of one channel in and out is never uploaded"
