"""Functions of one element that are not activations of old, and their relatives.

# Ref: LiteRT 2.3, tflite/kernels/activations.cc, elementwise.cc, exp.cc, neg.cc,
# internal/reference/gelu.h, internal/common.h (GetInvSqrtQuantizedMultiplierExp)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.polynomial import Chebyshev

from teflon.ir import fixedpoint
from teflon.ir.ops import rules
from teflon.ir.ops.unary import Tabulated, Unary
from teflon.ir.quantized import Multiplier, exp_float32, multiply_by_quantized_multiplier
from teflon.ir.types import Array, DType

_HALF = np.float32(0.5)
_MINUS_SQRT_HALF = np.float32(-math.sqrt(0.5))
_SQRT_TWO_OVER_PI = np.float32(math.sqrt(2 / math.pi))
_CUBIC = np.float32(0.044715)
_RSQRT_SHIFT = 20  # bits that 1 / sqrt gets behind the binary point


class Elu(Tabulated):
    """x for x >= 0, exp(x) - 1 below."""

    mnemonic: ClassVar[str] = "elu"
    tflite_name: ClassVar[str] = "ELU"
    tabulated: ClassVar[tuple[DType, ...]] = (DType.INT8,)

    def real(self, x: Array) -> Array:
        below = np.expm1(np.minimum(x, 0).astype(np.float64)).astype(np.float32)
        return np.where(x < 0, below, x)


@dataclass(frozen=True, eq=False, kw_only=True)
class Gelu(Tabulated):
    """x times the normal distribution's integral up to x; `approximate`: by a tanh."""

    mnemonic: ClassVar[str] = "gelu"
    tflite_name: ClassVar[str] = "GELU"

    approximate: bool = False

    def real(self, x: Array) -> Array:
        if not self.approximate:
            return np.asarray(_HALF * x * _erfc(x * _MINUS_SQRT_HALF))
        with np.errstate(over="ignore"):
            inner = _SQRT_TWO_OVER_PI * (x + _CUBIC * x * x * x)
        bent = np.tanh(inner.astype(np.float64)).astype(np.float32)
        return np.asarray(_HALF * x * (np.float32(1) + bent))


class Exp(Tabulated):
    """exp(x)."""

    mnemonic: ClassVar[str] = "exp"
    tflite_name: ClassVar[str] = "EXP"
    tabulated: ClassVar[tuple[DType, ...]] = (DType.INT8,)

    def real(self, x: Array) -> Array:
        return exp_float32(x)


class Log(Tabulated):
    """The natural logarithm; of a quantised x <= 0 it is the output's smallest value."""

    mnemonic: ClassVar[str] = "log"
    tflite_name: ClassVar[str] = "LOG"
    tabulated: ClassVar[tuple[DType, ...]] = (DType.INT8,)

    def real(self, x: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(x.astype(np.float64)).astype(np.float32)

    def stepped(self, x: Array) -> Array:
        y = self.output.type
        least = np.float32(y.dtype.range[0] - y.zero_point) * np.float32(y.scale)
        return np.where(x <= 0, least, self.real(x))


class _Plain(Unary):
    """A function with kernels for numbers that are not quantised."""

    kinds: ClassVar[tuple[DType, ...]] = (DType.FLOAT32,)

    def missing_kernel(self) -> str:
        return rules.outside(self.input, *self.kinds)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        with np.errstate(all="ignore"):
            return (np.asarray(self._plain(x)),)

    def _plain(self, x: Array) -> Array:
        raise NotImplementedError(type(self).__name__)


class Neg(_Plain):
    """-x of the stored numbers: the kernel of int8 ignores scales and zero points."""

    mnemonic: ClassVar[str] = "neg"
    tflite_name: ClassVar[str] = "NEG"
    kinds: ClassVar[tuple[DType, ...]] = (
        DType.FLOAT32, DType.INT8, DType.INT16, DType.INT32, DType.INT64,
    )  # fmt: skip

    def _plain(self, x: Array) -> Array:
        return np.negative(x)


class Square(_Plain):
    """x * x."""

    mnemonic: ClassVar[str] = "square"
    tflite_name: ClassVar[str] = "SQUARE"

    def _plain(self, x: Array) -> Array:
        return x * x


class Sqrt(_Plain):
    """The square root."""

    mnemonic: ClassVar[str] = "sqrt"
    tflite_name: ClassVar[str] = "SQRT"

    def _plain(self, x: Array) -> Array:
        return np.asarray(np.sqrt(x))


class Rsqrt(_Plain):
    """1 / sqrt(x); a quantised zero gives the largest value, a negative number is an error."""

    mnemonic: ClassVar[str] = "rsqrt"
    tflite_name: ClassVar[str] = "RSQRT"
    kinds: ClassVar[tuple[DType, ...]] = (DType.FLOAT32, DType.INT8)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        if self.input.type.dtype is not DType.INT8:
            return super().compute(*operands)
        centred = self.centred(rules.present(operands[0]))
        if centred.size and int(centred.min()) < 0:
            raise rules.unsupported(self, f"an input is {centred.min()} steps, must be 0 or more")
        return (self._roots().take(centred),)

    def _plain(self, x: Array) -> Array:
        return np.asarray(np.float32(1) / np.sqrt(x))

    def _roots(self) -> Array:
        """Return the outputs of the inputs that are 0, 1, ... 255 steps."""
        x, y = self.input.type, self.output.type
        factor = Multiplier.of(1 / (np.sqrt(np.float32(x.scale)) * np.float32(y.scale)))
        mantissa, exponent = fixedpoint.inverse_roots(np.arange(256, dtype=np.int64))
        one = np.ones(256, np.int64)
        wide = multiply_by_quantized_multiplier(one, mantissa, exponent + _RSQRT_SHIFT)
        shift = factor.shift - _RSQRT_SHIFT
        value = multiply_by_quantized_multiplier(wide, factor.quantized, shift)
        roots = rules.quantise(value, y, y.dtype.range)
        roots[0] = y.dtype.range[1]
        return roots


@functools.cache
def _complement() -> Callable[[Array], Array]:
    """Return P with erfc(z) = t * exp(P(t) - z * z), t = 2 / (2 + z), for z of 0 to 26."""

    def exponent(t: Array) -> Array:
        z = 2 / t - 2
        logs = [math.log(math.erfc(number)) for number in z.tolist()]
        return np.array(logs) + z * z - np.log(t)

    found: Callable[[Array], Array] = Chebyshev.interpolate(exponent, 40, domain=[2 / 28, 1])
    return found


def _erfc(x: Array) -> Array:
    """Return 1 less the error function of float32 numbers."""
    z = np.minimum(np.abs(x.astype(np.float64)), 26)
    t = 2 / (2 + z)
    above = t * np.exp(_complement()(t) - z * z)
    return np.asarray(np.where(x < 0, 2 - above, above), np.float32)
