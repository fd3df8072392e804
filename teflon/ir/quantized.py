"""Fixed-point arithmetic as TFLite's reference kernels do it, on whole arrays.

Integers are carried as int64 and hold the values that TFLite holds in int32 (or int16). "Round"
without more words means to nearest, halves away from zero. The rules are those of TFLite's default
build, which rounds twice in `multiply_by_quantized_multiplier`.
"""

# Ref: docs of TFLite's quantisation scheme; LiteRT tflite/kernels/internal/quantization_util.cc,
# tflite/kernels/internal/common.cc, tflite/kernels/kernel_util.cc; gemmlowp fixedpoint/fixedpoint.h

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from teflon.ir.types import Activation, Array, TensorType

Int64s = npt.NDArray[np.int64]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_BEYOND_INT32 = np.float32(2.0**31)
_BLOCK = 1 << 16  # elements that a requantisation works on at once: they stay in the L2 cache


def round_half_away(x: Array) -> Array:
    """Round each element of a float array to the nearest integer, keeping its type."""
    whole = np.trunc(x)
    up = np.abs(x - whole) >= 0.5  # the difference is exact, so a value below a half stays below
    return np.where(up, whole + np.copysign(np.ones_like(whole), x), whole)


def wrap_int32(x: Int64s) -> Int64s:
    """Return what is left of each value in a two's complement int32."""
    return x.astype(np.int32).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Multiplier:
    """A real factor quantized * 2 ** (shift - 31): one for a tensor, or one for each channel.

    `quantized` lies in [2**30, 2**31) or is 0; negative for a negative factor.
    """

    quantized: Int64s
    shift: Int64s

    @classmethod
    def of(cls, real: npt.ArrayLike) -> Self:
        """Return the nearest multiplier of a factor or of an array of them (as float64)."""
        values = np.asarray(real, np.float64)
        fraction, exponent = np.frexp(values)
        quantized = round_half_away(fraction * 2.0**31).astype(np.int64)
        shift = exponent.astype(np.int64)
        full = np.abs(quantized) == 2**31
        # TFLite tests the positive end only; a negative factor keeps -2**31.
        full &= quantized > 0
        quantized = np.where(full, quantized // 2, quantized)
        shift = np.where(full, shift + 1, shift)
        gone = shift < -31
        return cls(np.where(gone, 0, quantized), np.where(gone, 0, shift))

    def apply(self, x: Int64s) -> Int64s:
        """Return x times the factor, rounded as `multiply_by_quantized_multiplier` does."""
        return multiply_by_quantized_multiplier(x, self.quantized, self.shift)


class WideMultiplier(Multiplier):
    """A factor for 48-bit accumulators, cut to 16 bits; kernels with int16 activations use it."""

    def apply(self, x: Int64s) -> Int64s:
        """Return x times the factor, rounded once, halves up."""
        q = self.quantized
        reduced = np.where(q < 0x7FFF0000, (q + (1 << 15)) >> 16, 0x7FFF)
        total = 15 - self.shift
        half: Int64s = np.int64(1) << (total - 1)
        return wrap_int32((x * reduced + half) >> total)


_HUGE, _BEYOND = 2.0**20, 2.0**62
"""A factor with which sums of 40 bits may leave int64; a number far outside all 32-bit types."""


@dataclass(frozen=True, eq=False)
class RealMultiplier:
    """A real factor applied in float64 and rounded once: one for a tensor or one per channel."""

    real: npt.NDArray[np.float64]

    def apply(self, x: Int64s) -> Int64s:
        """Return x times the factor, rounded."""
        product = round_half_away(x * self.real)
        if self._may_overflow:  # the clamp behind this gives the same for all that is so large
            product = np.clip(product, -_BEYOND, _BEYOND)
        return product.astype(np.int64)

    @cached_property
    def _may_overflow(self) -> bool:
        return bool((np.abs(self.real) > _HUGE).any())


def saturating_rounding_doubling_high_mul(a: Int64s, b: Int64s | int, bits: int = 32) -> Int64s:
    """Return a * b / 2**(bits - 1), halves rounded up; the one overflow saturates.

    The kernels state it as a truncating division after a nudge that depends on the sign; that is
    the same number as this floor.
    """
    product = np.asarray(np.multiply(a, b, dtype=np.int64))
    product += 1 << (bits - 2)
    product >>= bits - 1
    result: Int64s = np.minimum(product, (1 << (bits - 1)) - 1, out=product)
    return result


def rounding_divide_by_pot(x: Int64s, exponent: Int64s | int) -> Int64s:
    """Return x / 2**exponent, rounded; exponents are 0 or more."""
    n = np.asarray(exponent, np.int64)
    down = (x >> 63) & -(n > 0).astype(np.int64)  # -1 where a negative half must not round up
    result: Int64s = (x + ((1 << n) >> 1) + down) >> n
    return result


def multiply_by_quantized_multiplier(
    x: Int64s, quantized: Int64s | int, shift: Int64s | int
) -> Int64s:
    """Return x * quantized * 2**(shift - 31) for int32 values, rounded at both of its steps."""
    shift = np.asarray(shift, np.int64)
    if shift.size and shift.max() > 0:
        x = wrap_int32(x << np.maximum(shift, 0))
    high = saturating_rounding_doubling_high_mul(x, quantized)
    return rounding_divide_by_pot(high, np.maximum(-shift, 0))


def reduce_to_int16(quantized: Int64s) -> Int64s:
    """Return a multiplier's upper 16 bits, rounded, saturating at the top."""
    return np.where(quantized >= INT32_MAX - (1 << 15), 0x7FFF, (quantized + (1 << 15)) >> 16)


def saturating_left_shift(x: Int64s, amount: int, bits: int = 16) -> Int64s:
    """Return x * 2**amount, saturating at the range of a signed integer of so many bits."""
    limit = 1 << (bits - 1)
    result: Int64s = np.clip(x << amount, -limit, limit - 1)
    return result


def doubling_high_mul_int16(a: Int64s, b: Int64s) -> Int64s:
    """Return a * b / 2**15 truncated toward zero; -2**15 times itself saturates."""
    product = a * b
    return np.minimum(divide_truncating(product, 1 << 15), 0x7FFF)


_BOUNDS: dict[Activation, tuple[float | None, float | None]] = {
    Activation.NONE: (None, None),
    Activation.RELU: (0.0, None),
    Activation.RELU6: (0.0, 6.0),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
}


def real_bounds(activation: Activation) -> tuple[float | None, float | None]:
    """Return the real numbers an activation clamps to; None where it is open.

    Raises ValueError for an activation that is not a clamp.
    """
    if activation not in _BOUNDS:
        raise ValueError(f"fused activation is {activation.value}, must be a clamp")
    return _BOUNDS[activation]


def quantize_bound(bound: float, type: TensorType) -> int:
    """Return the quantised value of a real bound: a float32 quotient, rounded, in 32 bits."""
    with np.errstate(over="ignore"):
        quotient = np.float32(bound) / np.float32(type.scale)
    limit = np.float32(INT32_MAX)
    return int(round_half_away(np.asarray(np.clip(quotient, -limit, limit)))) + type.zero_point


def activation_range(activation: Activation, type: TensorType) -> tuple[int, int]:
    """Return the smallest and largest quantised value that a fused activation lets through.

    Raises ValueError for an activation that is not a clamp.
    """
    low, high = real_bounds(activation)
    least, most = type.dtype.range
    if low is not None:
        least = max(least, quantize_bound(low, type))
    if high is not None:
        most = min(most, quantize_bound(high, type))
    return least, most


def convolution_factor(
    x: TensorType, w: TensorType, y: TensorType, *, float32_product: bool = False
) -> npt.NDArray[np.float64]:
    """Return input times weight scale over output scale, in float64: one for each weight scale.

    Kernels differ in where they round. With `float32_product` the product of the first two is
    rounded to float32 (uint8 convolutions): the last bits of the multiplier differ then, and so do
    results.
    """
    scales = w.quantization.scales if w.quantization else (1.0,)
    weights = np.asarray(scales, np.float64)
    product: npt.NDArray[np.float64] = np.float64(x.scale) * weights
    if float32_product:
        product = (np.float32(x.scale) * weights.astype(np.float32)).astype(np.float64)
    factor: npt.NDArray[np.float64] = product / np.float64(y.scale)
    return factor


def float32_quotient(a: float, b: float) -> float:
    """Return a / b computed in float32."""
    return float(np.float32(a) / np.float32(b))


@dataclass(frozen=True, eq=False)
class Requantizer:
    """The last step of a kernel: accumulators to an output's quantised values.

    `bias` and `multiplier` are scalars or run along the last axis. `wraps` says that adding the
    bias may leave int32.
    """

    multiplier: Multiplier | RealMultiplier
    output: TensorType
    clamp: tuple[int, int]
    bias: Array | None = None
    wraps: bool = False

    def __call__(self, accumulators: Array) -> Array:
        """Return the output's values for accumulators of any numeric type holding integers."""
        out = np.empty(accumulators.shape, self.output.dtype.numpy)
        channels = accumulators.shape[-1] if accumulators.ndim else 1
        flat, target = accumulators.reshape(-1, channels), out.reshape(-1, channels)
        step = max(1, _BLOCK // max(1, channels))
        for start in range(0, len(flat), step):
            target[start : start + step] = self._block(flat[start : start + step])
        return out

    def _block(self, part: Array) -> Int64s:
        x = part.astype(np.int64)
        if self.bias is not None:
            x += self.bias
        if self.wraps:
            x = wrap_int32(x)
        x = self.multiplier.apply(x)
        x += self.output.zero_point
        result: Int64s = np.clip(x, *self.clamp, out=x)
        return result


def quantize_real(x: Array, type: TensorType) -> Array:
    """Return the quantised values of float32 numbers: round(x / scale) + zero point, saturated."""
    scale, zero = broadcast_parameters(type)
    with np.errstate(over="ignore"):
        quotient = x / scale.astype(np.float32)
    # The C conversion of a quotient beyond int32 is undefined; saturate there.
    bounded = np.clip(np.nan_to_num(quotient, nan=INT32_MIN), np.float32(INT32_MIN), _BEYOND_INT32)
    whole = np.minimum(round_half_away(bounded).astype(np.int64), INT32_MAX)
    least, most = type.dtype.range
    q = np.clip(whole + zero, least, most)
    return np.asarray(q, type.dtype.numpy)


def dequantize(q: Array, type: TensorType) -> Array:
    """Return scale * (q - zero point) as float32, the product made in float64."""
    scale, zero = broadcast_parameters(type)
    return np.asarray(scale * (q.astype(np.int64) - zero), np.float32)


def broadcast_parameters(type: TensorType) -> tuple[Array, Array]:
    """Return scales (float64) and zero points (int64) shaped to broadcast over the tensor."""
    quantization = type.quantization
    if quantization is None:
        return np.float64(1.0) * np.ones(()), np.zeros((), np.int64)
    scale = np.asarray(quantization.scales, np.float64)
    zero = np.asarray(quantization.zero_points, np.int64)
    if quantization.axis is None:
        return scale[0].reshape(()), zero[0].reshape(())
    shape = [1] * type.rank
    shape[quantization.axis] = -1
    return scale.reshape(shape), zero.reshape(shape)


def divide_truncating(a: Array, b: Array | int) -> Int64s:
    """Return a / b truncated toward zero, b positive, as C divides."""
    quotient = (np.abs(a) // b).astype(np.int64)
    return np.where(a < 0, -quotient, quotient)


def lookup_table(function: Callable[[Array], Array], x: TensorType, y: TensorType) -> Array:
    """Return the 256 outputs of a function of an 8-bit value, by the input's bits.

    Computed as the kernels do: dequantised, transformed and rescaled in float32.
    """
    least, most = x.dtype.range
    q = np.arange(least, most + 1)
    # float64 and one rounding to float32 is what a correctly rounded expf or tanhf returns.
    transformed = function(np.float32(x.scale) * (q - x.zero_point).astype(np.float32))
    with np.errstate(over="ignore"):
        steps = transformed * (np.float32(1) / np.float32(y.scale))
    # The C conversion of what is beyond int32 is undefined; saturate there.
    rescaled = round_half_away(np.clip(steps, np.float32(INT32_MIN), np.float32(INT32_MAX)))
    whole = (rescaled + np.float32(y.zero_point)).astype(np.int64)
    by_value = np.clip(whole, *y.dtype.range).astype(y.dtype.numpy)
    return np.roll(by_value, least)  # negative ones come behind the others


def logistic(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) of float32 numbers, every step in float32."""
    with np.errstate(over="ignore"):
        power = exp_float32(-x)
    one = np.float32(1)
    return (one / (one + power)).astype(np.float32)


def exp_float32(x: Array) -> Array:
    """Return exp of float32 numbers, correctly rounded (numpy's own float32 exp is not)."""
    with np.errstate(over="ignore"):
        return np.exp(x.astype(np.float64)).astype(np.float32)


def log2_exact(scale: float) -> int | None:
    """Return n where scale is 2**n to within TFLite's tolerance of 1e-3 in the exponent."""
    exponent = math.log2(scale)
    nearest = round(exponent)
    return nearest if abs(exponent - nearest) < 1e-3 else None
