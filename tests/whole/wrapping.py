"""Sums whose result is decided by overflow: the reference wraps there, and no chip does.

TFLite multiplies a sum of 32 bits by a factor of at least 1 by shifting it to the left first. What
leaves 32 bits then is lost, and the result is neither the real product nor a limit of the type.
"""

# Ref: TFLite, tensorflow/lite/kernels/internal/common.h (MultiplyByQuantizedMultiplier)

from __future__ import annotations

import numpy as np

from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.types import Array, DType

Weighted = Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv

_MOST = (1 << 31) - 1
_BYTES = (DType.UINT8, DType.INT8)


def overflow(op: Weighted) -> str | None:
    """Return how far the sums of an operation get beyond 32 bits; None where they never do.

    None too where other limits refuse the operation: it is not of bytes, or its weights or its bias
    are computed.
    """
    if not _is_known(op):
        return None
    bias = _magnitudes(op)
    shifts = _left_shifts(op)
    span = max(op.input.type.zero_point - _least(op), _least(op) + 255 - op.input.type.zero_point)
    assert op.weights.data is not None
    taps = op.weights.data.size // max(op.output.shape[-1], 1)
    rough = (float(bias.max(initial=0)) + span * 255.0 * taps) * 2.0 ** float(shifts.max())
    if rough <= _MOST:
        return None
    distance = op.weights.data.astype(np.int64)
    distance -= np.asarray(_zeros(op)).reshape(_along(op, distance.ndim))
    axes = tuple(n for n in range(distance.ndim) if n != _axis(op, distance.ndim))
    sums = span * np.abs(distance).sum(axis=axes) + bias
    reach = (sums * np.exp2(shifts)).max(initial=0)
    return None if reach <= _MOST else f"sums and biases reach {reach:.3g}"


def _is_known(op: Weighted) -> bool:
    maps = (op.input, op.weights, op.output)
    constant = op.weights.data is not None and (op.bias is None or op.bias.data is not None)
    return constant and all(v.type.dtype in _BYTES and v.type.quantization for v in maps)


def _axis(op: Weighted, rank: int) -> int:
    return rank - 1 if isinstance(op, DepthwiseConv2D) else 0


def _along(op: Weighted, rank: int) -> tuple[int, ...]:
    return tuple(-1 if n == _axis(op, rank) else 1 for n in range(rank))


def _least(op: Weighted) -> int:
    return int(np.iinfo(op.input.type.dtype.numpy).min)


def _zeros(op: Weighted) -> list[int]:
    quantization = op.weights.type.quantization
    return list(quantization.zero_points) if quantization is not None else [0]


def _magnitudes(op: Weighted) -> Array:
    if op.bias is None or op.bias.data is None:
        return np.zeros(1, np.int64)
    return np.abs(op.bias.data.astype(np.int64))


def _left_shifts(op: Weighted) -> Array:
    """Return by how many bits the reference shifts each channel's sums to the left."""
    quantization = op.weights.type.quantization
    scales = np.array(quantization.scales if quantization is not None else [1.0], np.float64)
    ratios = float(op.input.type.scale) * scales / float(op.output.type.scale)
    return np.maximum(np.frexp(ratios)[1], 0).astype(np.float64)
