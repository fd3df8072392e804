"""Write attributes that several operations share."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.ir import Activation, DType, Op, Padding, TensorType, Value
from teflon.ir.types import NO_PADDING

Pair = tuple[int, int]

_LIMITS = {
    Activation.NONE: (-np.inf, np.inf),
    Activation.RELU: (0.0, np.inf),
    Activation.RELU6: (0.0, 6.0),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
}


def operand(op: Op, what: str, numbers: Any) -> Value:
    """Return a constant int32 operand that carries an attribute."""
    data = np.array(numbers, np.int32)
    data.flags.writeable = False
    return Value(f"{op.where}/{what}", TensorType(DType.INT32, data.shape), data)


def activation(op: Any) -> int:
    """Return the code of an operation's fused activation, or of the one that its clamp means.

    Raises ModelError where no activation means the clamp.
    """
    clamp = getattr(op, "clamp", None)
    meant = op.activation if clamp is None else _activation_of(op, clamp)
    return schema.ACTIVATIONS.index(meant)


def _activation_of(op: Op, clamp: Pair) -> Activation:
    out = op.results[0].type
    for meant, (low, high) in _LIMITS.items():
        if (_quantized(low, out), _quantized(high, out)) == clamp:
            return meant
    raise ModelError(
        f"{op.title}: clamp is {list(clamp)}, must be what an activation means for scale"
        f" {out.scale:g} and zero point {out.zero_point} (write the graph before it is lowered)"
    )


def _quantized(real: float, kind: TensorType) -> int:
    lowest, highest = kind.dtype.range
    if not np.isfinite(real):
        return highest if real > 0 else lowest
    steps = np.float32(real) / np.float32(kind.scale)
    nearest = int(np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps))
    return min(max(kind.zero_point + nearest, lowest), highest)


def padding(op: Any, size: Pair, kernel: Pair, dilation: Pair = (1, 1)) -> int:
    """Return the code of an operation's padding; raises ModelError where the format has none."""
    if op.padding == NO_PADDING:
        return schema.VALID
    same = Padding.same(size, kernel, op.stride, dilation)
    if op.padding == same:
        return schema.SAME
    p = op.padding
    raise ModelError(
        f"{op.title}: padding is top {p.top}, bottom {p.bottom}, left {p.left}, right {p.right},"
        f" must be none or SAME (top {same.top}, bottom {same.bottom}, left {same.left},"
        f" right {same.right}); the format needs a PAD operation before it"
    )


def strides(op: Any) -> dict[str, int]:
    """Return the options that say an operation's stride."""
    return {"stride_h": op.stride[0], "stride_w": op.stride[1]}
