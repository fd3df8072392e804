"""Softmax in fixed point: exp and reciprocals as gemmlowp's 32-bit arithmetic computes them.

A number in Qn.m is an integer with m = 31 - n fraction bits.
"""

# Ref: gemmlowp fixedpoint/fixedpoint.h; LiteRT tflite/kernels/internal/reference/softmax.h

from __future__ import annotations

import math

import numpy as np

from teflon.ir.quantized import (
    INT32_MAX,
    Int64s,
    Multiplier,
    divide_truncating,
    rounding_divide_by_pot,
    saturating_left_shift,
)
from teflon.ir.quantized import saturating_rounding_doubling_high_mul as multiply
from teflon.ir.types import Array, TensorType

DIFF_INTEGER_BITS = 5  # the exponents' format, Q5.26
SUM_INTEGER_BITS = 12  # the sum's format, Q12.19

_EXP_MINUS_EIGHTH = round(math.exp(-1 / 8) * 2**31)
_THIRD = round(2**31 / 3)
_EXP_OF_MINUS_POT = {e: round(math.exp(-(2.0**e)) * 2**31) for e in range(-2, 5)}
_HALF_SQRT_2 = 1518500250
_48_OVER_17 = round(48 / 17 * 2**29)
_MINUS_32_OVER_17 = round(-32 / 17 * 2**29)


def _exp_near_zero(a: Int64s) -> Int64s:
    """Return exp(a) in Q0.31 for a in [-1/4, 0) in Q0.31: a polynomial about -1/8."""
    x = a + (1 << 28)
    x2 = multiply(x, x)
    x3 = multiply(x2, x)
    x4 = multiply(x2, x2)
    quartic_and_cubic = multiply(rounding_divide_by_pot(x4, 2) + x3, _THIRD)
    tail = rounding_divide_by_pot(quartic_and_cubic + x2, 1)
    return _EXP_MINUS_EIGHTH + multiply(x + tail, _EXP_MINUS_EIGHTH)


def exp_on_negative_values(a: Int64s) -> Int64s:
    """Return exp(a) in Q0.31 for a <= 0 in Q5.26; 1 saturates to the largest value."""
    fraction_bits = 31 - DIFF_INTEGER_BITS
    quarter = 1 << (fraction_bits - 2)
    near = (a & (quarter - 1)) - quarter
    result = _exp_near_zero(saturating_left_shift(near, DIFF_INTEGER_BITS, 32))
    remainder = near - a
    for exponent, factor in _EXP_OF_MINUS_POT.items():
        present = remainder & (1 << (fraction_bits + exponent))
        result = np.where(present, multiply(result, factor), result)
    return np.where(a == 0, INT32_MAX, result)


def _one_over_one_plus(a: Int64s) -> Int64s:
    """Return 1 / (1 + a) in Q0.31 for a in [0, 1) in Q0.31, by three Newton steps."""
    total = a + INT32_MAX
    half_denominator = divide_truncating(total + np.where(total >= 0, 1, -1), 2)
    x = _48_OVER_17 + multiply(half_denominator, _MINUS_32_OVER_17)  # Q2.29
    for _ in range(3):
        rest = (1 << 29) - multiply(half_denominator, x)
        x = x + saturating_left_shift(multiply(x, rest), 2, 32)
    return saturating_left_shift(x, 1, 32)


def _leading_zeros(x: Int64s) -> Int64s:
    """Return the number of leading zero bits of positive 32-bit values."""
    return 32 - np.frexp(x.astype(np.float64))[1].astype(np.int64)


def reciprocal(x: Int64s, integer_bits: int) -> tuple[Int64s, Int64s]:
    """Return 1/x as (mantissa in Q0.31, bits over one unit) for x > 0 with these integer bits."""
    headroom = _leading_zeros(x)
    mantissa = _one_over_one_plus((x << headroom) - (1 << 31))
    return mantissa, integer_bits - headroom


def inverse_roots(x: Int64s) -> tuple[Int64s, Int64s]:
    """Return 1 / sqrt(x) as (mantissa in Q0.31, left shift) for 0 <= x < 2**29; 0 counts as 1.

    # Ref: LiteRT tflite/kernels/internal/common.h, GetInvSqrtQuantizedMultiplierExp
    """
    pairs = (_leading_zeros(np.maximum(x, 2)) - 1) // 2 - 1
    near = (x << (2 * pairs)) >> 1  # Q3.28
    half = rounding_divide_by_pot(near, 1)
    root = np.full_like(x, 1 << 28)
    for _ in range(5):
        cube = saturating_left_shift(multiply(multiply(root, root), root), 6, 32)
        step = multiply(np.full_like(x, 3 << 27), root) - multiply(half, cube)
        root = saturating_left_shift(step, 3, 32)
    mantissa = multiply(root, _HALF_SQRT_2)
    right = 11 - pairs
    mantissa, right = mantissa << np.maximum(-right, 0), np.maximum(right, 0)
    return np.where(x <= 1, INT32_MAX, mantissa), np.where(x <= 1, 0, -right)


def softmax_scaling(beta: float, scale: float) -> tuple[Multiplier, int]:
    """Return the multiplier of input differences and the least difference that counts.

    Raises ValueError where beta times scale is too small for the fixed-point format.
    """
    real = min(beta * scale * 2.0 ** (31 - DIFF_INTEGER_BITS), 2.0**31 - 1)
    if real <= 1:
        raise ValueError(f"beta times input scale is {beta * scale:g}, must be above 2**-26")
    multiplier = Multiplier.of(real)
    largest = (2**DIFF_INTEGER_BITS - 1) * 2.0 ** (31 - DIFF_INTEGER_BITS)
    return multiplier, -math.floor(largest / 2.0 ** int(multiplier.shift))


def softmax(x: Array, beta: float, input_type: TensorType, output_type: TensorType) -> Array:
    """Return the softmax over the last axis of 8-bit values; output 8 or 16 bits.

    The output's scale is 1/256 (1/65536) and its zero point the type's smallest value, whatever
    its declared quantisation. Raises ValueError as `softmax_scaling` does.
    """
    multiplier, diff_min = softmax_scaling(beta, input_type.scale)
    wide = x.astype(np.int64)
    diff = wide - wide.max(axis=-1, keepdims=True)
    counts = diff >= diff_min
    exponents = exp_on_negative_values(multiplier.apply(np.where(counts, diff, 0)))
    terms = np.where(counts, rounding_divide_by_pot(exponents, SUM_INTEGER_BITS), 0)
    scale, bits_over = reciprocal(terms.sum(axis=-1, keepdims=True), SUM_INTEGER_BITS)
    target = output_type.dtype
    exponent = bits_over + 31 - 8 * target.numpy.itemsize
    least, most = target.range
    values = rounding_divide_by_pot(multiply(scale, exponents), exponent) + least
    return np.where(counts, np.clip(values, least, most), least).astype(target.numpy)
