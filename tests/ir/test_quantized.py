"""Fixed-point primitives against their definitions in Python's unbounded integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.ir import Quantization, TensorType, fixedpoint
from teflon.ir import quantized as q
from teflon.ir.types import Activation, DType

INT32 = st.integers(-(2**31), 2**31 - 1)
INT16 = st.integers(-(2**15), 2**15 - 1)
SHIFTS = st.integers(0, 31)
FACTORS = st.floats(2.0**-40, 2.0**20, allow_subnormal=False)


def int64(value: int) -> q.Int64s:
    return np.array([value], np.int64)


def truncated(a: int, b: int) -> int:
    return abs(a) // b * (1 if a >= 0 else -1)


def rounded(x: Fraction) -> int:
    """Nearest integer, halves away from zero."""
    whole = math.floor(abs(x) + Fraction(1, 2))
    return whole if x >= 0 else -whole


def wrapped(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


def high_mul(a: int, b: int, bits: int = 32) -> int:
    """The definition: a nudge by the product's sign, then C's truncating division."""
    least: int = -(2 ** (bits - 1))
    if a == b == least:
        return int(-least - 1)
    nudge = 2 ** (bits - 2) if a * b >= 0 else 1 - 2 ** (bits - 2)
    return truncated(a * b + nudge, 2 ** (bits - 1))


@given(INT32, INT32)
def test_saturating_rounding_doubling_high_mul(a: int, b: int) -> None:
    assert q.saturating_rounding_doubling_high_mul(int64(a), int64(b))[0] == high_mul(a, b)


@given(INT16, INT16)
def test_high_mul_of_16_bits(a: int, b: int) -> None:
    result = q.saturating_rounding_doubling_high_mul(int64(a), int64(b), bits=16)[0]
    assert result == high_mul(a, b, 16)


@pytest.mark.parametrize("bits", [16, 32])
def test_high_mul_saturates(bits: int) -> None:
    least: int = -(2 ** (bits - 1))
    result = q.saturating_rounding_doubling_high_mul(int64(least), int64(least), bits=bits)
    assert result[0] == -least - 1


@given(INT16, INT16)
def test_doubling_high_mul_int16_truncates(a: int, b: int) -> None:
    want = 2**15 - 1 if a == b == -(2**15) else truncated(a * b, 2**15)
    assert q.doubling_high_mul_int16(int64(a), int64(b))[0] == want


@given(INT32, SHIFTS)
def test_rounding_divide_by_pot(x: int, exponent: int) -> None:
    assert q.rounding_divide_by_pot(int64(x), exponent)[0] == rounded(Fraction(x, 2**exponent))


@given(st.lists(st.tuples(INT32, SHIFTS), min_size=1, max_size=9))
def test_rounding_divide_takes_an_exponent_for_each_element(pairs: list[tuple[int, int]]) -> None:
    x, n = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    want = [rounded(Fraction(a, 2**b)) for a, b in pairs]
    assert q.rounding_divide_by_pot(x, n).tolist() == want


@given(INT32, st.integers(2**30, 2**31 - 1), st.integers(-31, 20))
def test_multiply_by_quantized_multiplier(x: int, quantized: int, shift: int) -> None:
    left = wrapped(x * 2 ** max(shift, 0))
    want = rounded(Fraction(high_mul(left, quantized), 2 ** max(-shift, 0)))
    assert q.multiply_by_quantized_multiplier(int64(x), quantized, shift)[0] == want


@given(FACTORS)
def test_multiplier_is_the_nearest(real: float) -> None:
    m = q.Multiplier.of(real)
    quantized, shift = int(m.quantized), int(m.shift)
    if quantized == 0:
        assert real < 2.0**-31
        return
    assert 2**30 <= quantized < 2**31
    error = abs(Fraction(real) - Fraction(quantized) * Fraction(2) ** (shift - 31))
    assert error <= Fraction(2) ** (shift - 32)


def test_multiplier_at_the_edges() -> None:
    almost_one = q.Multiplier.of(1 - 2.0**-40)
    assert (int(almost_one.quantized), int(almost_one.shift)) == (2**30, 1)
    assert int(q.Multiplier.of(0.0).quantized) == 0
    assert int(q.Multiplier.of(2.0**-33).quantized) == 0
    smallest = q.Multiplier.of(2.0**-32)
    assert (int(smallest.quantized), int(smallest.shift)) == (2**30, -31)
    assert int(q.Multiplier.of(-0.25).quantized) == -(2**30)


@given(INT32, FACTORS)
def test_multiplying_is_close_to_the_real_product(x: int, real: float) -> None:
    product = x * real
    if abs(product) >= 2**31 or abs(x * 2 ** max(0, math.frexp(real)[1])) >= 2**31:
        return
    result = int(q.Multiplier.of(real).apply(int64(x))[0])
    assert abs(result - product) <= 1 + abs(product) * 2.0**-30


@given(st.integers(-(2**47), 2**47 - 1), st.floats(2.0**-30, 2.0**-1))
def test_wide_multiplier(x: int, real: float) -> None:
    m = q.WideMultiplier.of(real)
    quantized, shift = int(m.quantized), int(m.shift)
    reduced = (quantized + 2**15) // 2**16 if quantized < 0x7FFF0000 else 0x7FFF
    total = 15 - shift
    assert m.apply(int64(x))[0] == wrapped((x * reduced + 2 ** (total - 1)) // 2**total)


@given(INT32, FACTORS)
def test_real_multiplier_rounds_once(x: int, real: float) -> None:
    product = x * real  # Python's float multiplication is the same IEEE one
    if abs(product) < 2**53:
        assert q.RealMultiplier(np.array(real)).apply(int64(x))[0] == rounded(Fraction(product))


@given(st.floats(-(2.0**22), 2.0**22, width=32))
def test_round_half_away(x: float) -> None:
    assert float(q.round_half_away(np.array([x], np.float32))[0]) == rounded(Fraction(x))


@pytest.mark.parametrize("x", [0.49999997, -0.49999997, 0.5, -0.5, 1.5, 2.5, -2.5, 8388607.5])
def test_round_half_away_at_halves(x: float) -> None:
    value = np.array([x], np.float32)
    assert float(q.round_half_away(value)[0]) == rounded(Fraction(float(value[0])))


@given(INT32, st.integers(1, 2**20))
def test_divide_truncating(a: int, b: int) -> None:
    assert q.divide_truncating(int64(a), b)[0] == truncated(a, b)


@given(INT16, st.integers(0, 15))
def test_saturating_left_shift(x: int, amount: int) -> None:
    want = max(-(2**15), min(2**15 - 1, x * 2**amount))
    assert q.saturating_left_shift(int64(x), amount)[0] == want


@given(st.integers(2**30, 2**31 - 1))
def test_reduce_to_int16(quantized: int) -> None:
    want = min(0x7FFF, (quantized + 2**15) // 2**16)
    assert q.reduce_to_int16(int64(quantized))[0] == want


@given(st.integers(-(2**40), 2**40))
def test_wrap_int32(x: int) -> None:
    assert q.wrap_int32(int64(x))[0] == wrapped(x)


# Activation ranges ---------------------------------------------------------------------------

RANGES = [
    (DType.UINT8, 6 / 255, 0, Activation.RELU6, (0, 255)),
    (DType.UINT8, 0.05, 10, Activation.RELU6, (10, 130)),
    (DType.INT8, 0.05, -20, Activation.RELU, (-20, 127)),
    (DType.INT8, 0.05, -20, Activation.RELU_N1_TO_1, (-40, 0)),
    (DType.INT8, 0.001, 0, Activation.RELU6, (0, 127)),
    (DType.INT8, 0.1, 3, Activation.NONE, (-128, 127)),
    (DType.UINT8, 4.0, 0, Activation.RELU6, (0, 2)),  # 1.5 rounds away from zero
]


@pytest.mark.parametrize(("dtype", "scale", "zero", "activation", "want"), RANGES)
def test_activation_range(
    dtype: DType, scale: float, zero: int, activation: Activation, want: tuple[int, int]
) -> None:
    type_ = TensorType(dtype, (1,), Quantization.per_tensor(scale, zero))
    assert q.activation_range(activation, type_) == want


def test_tanh_is_no_clamp() -> None:
    type_ = TensorType(DType.INT8, (1,), Quantization.per_tensor(0.1))
    with pytest.raises(ValueError, match=r"^fused activation is tanh, must be a clamp$"):
        q.activation_range(Activation.TANH, type_)


# Softmax's fixed point -----------------------------------------------------------------------


@given(st.integers(-(2**31) + 1, 0))
def test_exp_on_negative_values(a: int) -> None:
    have = int(fixedpoint.exp_on_negative_values(int64(a))[0]) / 2**31
    assert have == pytest.approx(math.exp(a / 2**26), abs=3e-7)  # a polynomial of degree 4


@given(st.integers(2**19, 2**27))
def test_reciprocal(x: int) -> None:
    mantissa, bits_over = fixedpoint.reciprocal(int64(x), fixedpoint.SUM_INTEGER_BITS)
    real = x / 2**19
    assert int(mantissa[0]) / 2**31 / 2.0 ** int(bits_over[0]) == pytest.approx(1 / real, rel=1e-7)


def test_softmax_needs_a_scale() -> None:
    with pytest.raises(ValueError, match=r"^beta times input scale is 1e-09, must be above"):
        fixedpoint.softmax_scaling(1.0, 1e-9)


# Requantising blocks --------------------------------------------------------------------------


@given(st.integers(1, 700), st.integers(1, 5), st.booleans())
def test_blocks_do_not_show(rows: int, channels: int, per_channel: bool) -> None:
    """One element at a time gives what the blocked requantiser gives."""
    rng = np.random.default_rng(rows * channels)
    acc = rng.integers(-(2**20), 2**20, (rows * 40, channels))
    factors = rng.uniform(1e-5, 1e-3, channels if per_channel else 1)
    type_ = TensorType(DType.INT8, acc.shape, Quantization.per_tensor(0.1, 5))
    bias = rng.integers(-500, 500, channels).astype(np.int32)
    finish = q.Requantizer(q.Multiplier.of(factors), type_, (-100, 90), bias)
    wide = np.broadcast_to(factors, acc.shape)
    want = q.Multiplier.of(wide).apply(acc + bias) + 5
    assert np.array_equal(finish(acc.astype(np.float64)), np.clip(want, -100, 90))


def test_a_bias_may_wrap() -> None:
    """int32 accumulators overflow as two's complement, as the kernels' do in practice."""
    type_ = TensorType(DType.INT8, (1, 1), Quantization.per_tensor(1.0))
    bias = np.array([2**31 - 1], np.int32)
    finish = q.Requantizer(q.Multiplier.of(2.0**-26), type_, (-128, 127), bias, wraps=True)
    assert finish(np.array([[1]])).tolist() == [[-32]]


def test_a_bound_beyond_32_bits_saturates() -> None:
    """6 over the smallest float32 is infinite; TFLite refuses such a scale."""
    kind = TensorType(DType.INT8, (1,), Quantization.per_tensor(1e-45, -128))
    assert q.quantize_bound(6.0, kind) > 127
    assert q.activation_range(Activation.RELU6, kind) == (-128, 127)


@pytest.mark.parametrize("dtype", [DType.UINT8, DType.INT8, DType.INT16])
def test_the_largest_floats_saturate_without_a_warning(dtype: DType) -> None:
    kind = TensorType(dtype, (4,), Quantization.per_tensor(0.1, 0))
    largest = np.finfo(np.float32).max
    x = np.array([largest, -largest, np.inf, -np.inf], np.float32)
    low, high = dtype.range
    assert q.quantize_real(x, kind).tolist() == [high, low, high, low]
