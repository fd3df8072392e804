"""The numbers of lookup tables: piecewise linear, 1024 of them with 21 bits each.

Ref: docs/hardware/etnaviv.md section 5.5
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_tp.c
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]

_HALF, _ONE, _ZERO = 0.5, 1.0, 0.0
_LARGEST = 0xF7FFF
_MINUS_ZERO = 0x100000
_STEP = 0x800  # of the number's bits from one entry to the next


def fp21(values: npt.ArrayLike) -> U32:
    """Return sign (1), exponent (5, bias 15) and mantissa (15) of float32 values."""
    v = np.atleast_1d(np.asarray(values, np.float32))
    bits = v.view(np.uint32)
    sign = (bits >> 31) << 20
    exponent = ((bits >> 23) & 0xFF).astype(np.int64) - 127
    fraction = (bits & 0x7FFFFF).astype(np.float64)
    small = np.rint(np.abs(v.astype(np.float64)) * 2.0**24)
    number = (exponent + 15).clip(0, 31).astype(np.int64) << 15 | np.rint(fraction / 256).astype(
        np.int64
    )
    number = np.where(exponent > 15, 0x1E << 15 | 0x7FFF, number)
    number = np.where(exponent < -14, small.astype(np.int64), number)
    number = np.where(exponent == -127, 0, number)
    number = np.where(np.isinf(v), 15 << 15, number)
    return (number.astype(np.uint32) | sign).astype(np.uint32)


def _magnitudes() -> U32:
    """Return the entries of the identity over positive numbers: 0, then step by step."""
    steps = np.arange(480, dtype=np.uint32) * _STEP + 0x8000
    return np.concatenate([np.zeros(16, np.uint32), steps, np.full(16, _LARGEST, np.uint32)])


def relu() -> U32:
    """Return the table of max(x, 0)."""
    return np.concatenate([_magnitudes(), np.full(512, _MINUS_ZERO, np.uint32)])


def absolute() -> U32:
    """Return the table of |x|."""
    positive = _magnitudes()
    return np.concatenate([positive, np.full(16, _MINUS_ZERO, np.uint32), positive[16:]])


def _value(code: U32) -> npt.NDArray[np.float32]:
    """Return the float32 of a 21-bit number."""
    bits = ((code & 0xFFFFF) << 8 | (code & 0x100000) << 11) + np.uint32(0x38000000)
    return bits.astype(np.uint32).view(np.float32)


def logistic(input_scale: np.float32) -> U32:
    """Return the table of 1 / (1 + exp(-x * scale)); all arithmetic is float32."""
    one = np.float32(1)

    def f(code: U32) -> U32:
        with np.errstate(over="ignore"):
            e = np.exp(-(_value(code) * np.float32(input_scale)))
        return fp21(one / (e + one))

    return np.concatenate([
        np.repeat(fp21(_HALF), 16),
        f(np.arange(0x8000, 0xF8000, _STEP, dtype=np.uint32)),
        np.repeat(fp21(_ONE), 16),
        np.repeat(fp21(_HALF), 17),
        f(np.arange(0x108800, 0x1F8000, _STEP, dtype=np.uint32)),
        np.repeat(fp21(_ZERO), 16),
    ])  # fmt: skip


def output_scale(scale: np.float32) -> tuple[int, int]:
    """Return (post multiplier, post shift) of a table's output scale, rounded as Mesa rounds."""
    bits = int(np.float32(scale).view(np.uint32))
    if bits & 0x80 and bits & 0x17F:
        bits += 0x100
    return (bits >> 8) & 0x7FFF, (127 - (bits >> 23)) % 128
