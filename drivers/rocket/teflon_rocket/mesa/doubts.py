# Ref: docs/hardware/rocket.md §4.3, §5.1, §5.3, §10.1
# Ref: docs/hardware/rocket_vendor.md finding 4 (depthwise rows), §1 "Weight row widths",
# Ref: "ARGB input memory"
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
        elif op.input.shape[3] == 1 and op.input.shape[2] > 16 and op.input.shape[2] % 16:
            yield "rows of one channel are read whole 16 bytes apart"
        yield from _misplaced(op)


def _misplaced(op: Conv2D | DepthwiseConv2D) -> Iterator[str]:
    """Rows of weights of another width than the hardware reads; harmless where only one tap is."""
    channels, kernels = op.input.shape[3], op.output.shape[3]
    if op.weights.shape[1] * op.weights.shape[2] == 1:
        return
    if isinstance(op, DepthwiseConv2D):
        rest = channels % 64
        if 33 <= rest <= 48 or (channels > 64 and 17 <= rest <= 31):
            yield f"weight rows of {channels} channels have another width than the hardware's"
    elif kernels % 2 and channels > 32 and 1 <= channels % 32 <= 16:
        yield f"the row of zeros behind {kernels} kernels has another width than the hardware's"
