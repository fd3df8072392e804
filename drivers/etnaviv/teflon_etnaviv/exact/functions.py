"""Operations as functions of one byte: what all 256 bytes of their operand become.

The numbers come from the operation's own arithmetic. Constants of one number are part of the
function.
"""

from __future__ import annotations

import math

import numpy as np

from teflon.errors import TeflonError
from teflon.ir.graph import Op, Value
from teflon.ir.types import Array, DType, TensorType
from teflon_etnaviv.tensors import Tensor

_BYTES = np.arange(256, dtype=np.uint8)


def operand(op: Op) -> Value | None:
    """Return the tensor of whose elements alone those of the result are functions, if there is one.

    All other operands are constants of one number.
    """
    found = {v for v in op.inputs_present if not v.is_constant}
    numbers = all(number(v) is not None for v in op.inputs_present if v.is_constant)
    if len(found) != 1 or not numbers:
        return None
    (value,) = found
    return value if math.prod(value.shape) == math.prod(op.results[0].shape) else None


def number(value: Value) -> Array | None:
    """Return the number of a constant all of whose elements are the same, of shape [1]."""
    if value.data is None or not value.data.size:
        return None
    elements = value.data.reshape(-1)
    return elements[:1] if bool((elements == elements[0]).all()) else None


def function(op: Op) -> bytes:
    """Return the 256 bytes that the device's bytes of its operand become.

    Raises TeflonError where the operation has no result for one of them.
    """
    source = operand(op)
    assert source is not None, "a rule asks for it"
    every = stored(_BYTES, source.type)
    operands = [every if value is source else number(value) for value in op.inputs_present]
    (found,) = op.evaluate(*operands)
    return device_bytes(np.broadcast_to(found, every.shape), op.results[0].type).tobytes()


def why_not(op: Op) -> str | None:
    """Say why an operation has no function of a byte."""
    try:
        function(op)
    except TeflonError as error:
        return str(error)
    return None


def stored(data: Array, kind: TensorType) -> Array:
    """Return the device's bytes as a tensor's numbers: int8 lies there with its sign flipped."""
    return np.bitwise_xor(data, np.uint8(0x80)).view(np.int8) if kind.dtype is DType.INT8 else data


def device_bytes(data: Array, kind: TensorType) -> Array:
    """Return a tensor's numbers as the device's bytes."""
    plain = np.ascontiguousarray(data).view(np.uint8)
    return np.bitwise_xor(plain, np.uint8(0x80)) if kind.dtype is DType.INT8 else plain


def clamping(low: int, high: int, kind: TensorType) -> bytes:
    """Return the function that keeps a tensor's numbers between two of them."""
    clipped = np.clip(stored(_BYTES, kind), low, high)
    return device_bytes(clipped.astype(kind.dtype.numpy), kind).tobytes()


def requantising(source: Tensor, target: Tensor) -> bytes:
    """Return the function from one quantisation to another; TFLite rounds halves away from zero."""
    return scaled(source, float(target.scale), target.zero_point)


def scaled(source: Tensor, scale: float, zero: int, sign: int = 1) -> bytes:
    """Return a tensor's numbers, times `sign`, in steps of `scale` from `zero`, rounded."""
    steps = sign * (_BYTES.astype(np.float64) - source.zero_point) * float(source.scale) / scale
    whole = np.trunc(steps + np.copysign(0.5, steps)) + zero
    found: Array = np.clip(whole, 0, 255).astype(np.uint8)
    return found.tobytes()
