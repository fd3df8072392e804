"""Two operands, element by element, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from teflon.ir import fixedpoint
from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import (
    Int64s,
    Multiplier,
    log2_exact,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
    wrap_int32,
)
from teflon.ir.types import Activation, Array, DType, TensorType

_WORTH_TABLE = 1 << 15  # elements from which on a table of all pairs of 8-bit values is worth it
_DIVIDED = (DType.FLOAT32, DType.INT32, DType.INT16, DType.INT8)
_SQUARED = (DType.FLOAT32, DType.INT32, DType.INT8)
_SQUARED_SHIFT = 7  # bits that differences get before they are squared


@dataclass(frozen=True, eq=False, kw_only=True)
class _Binary(Op):
    """What all of these have in common."""

    a: Value
    b: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(self.a.type.dtype, rules.broadcast(self.a, self.b)),)

    def check(self) -> list[str]:
        return rules.same_dtype(self.a, self.b)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Arithmetic(_Binary):
    """An arithmetic operation that rescales its operands and may end with a clamp."""

    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    def check(self) -> list[str]:
        return [
            *super().check(),
            *rules.quantised(self.a, self.b, self.output),
            *rules.clamp_problems(self.activation, self.clamp, self.output.type),
        ]

    def missing_kernel(self) -> str:
        if self.a.type.dtype not in (DType.FLOAT32, DType.INT32) and (
            self.a.type.dtype not in rules.QUANTISED or self.output.type.quantization is None
        ):
            return rules.no_kernel(self.a, self.b)
        return rules.no_clamp(self.activation)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        a, b = rules.present(operands[0]), rules.present(operands[1])
        dtype = self.a.type.dtype
        if dtype in (DType.FLOAT32, DType.INT32):
            return (np.asarray(rules.clamp_real(self._plain(a, b), self.activation)),)
        if dtype.numpy.itemsize == 1 and self.output.type.size >= _WORTH_TABLE:
            return (self._looked_up(a, b),)
        return (self._computed(a, b),)

    def _computed(self, a: Array, b: Array) -> Array:
        clamp = rules.integer_clamp(self.activation, self.clamp, self.output.type)
        # Each operand less its zero point; 8-bit values become wide enough for what follows.
        centred = [
            x.astype(np.int64) - value.type.zero_point for x, value in ((a, self.a), (b, self.b))
        ]
        return rules.quantise(self._quantised(centred[0], centred[1]), self.output.type, clamp)

    def _looked_up(self, a: Array, b: Array) -> Array:
        index = a.view(np.uint8).astype(np.intp)
        index <<= 8
        return self._table.take(index | b.view(np.uint8))

    @cached_property
    def _table(self) -> Array:
        """The result for each pair of 8-bit values: 256 times the first one's byte + the second."""
        values = np.arange(256, dtype=np.uint8).view(self.a.type.dtype.numpy)
        return self._computed(values[:, None], values).reshape(-1)

    def _plain(self, a: Array, b: Array) -> Array:
        """Compute float32 or int32 numbers; int32 wraps."""
        raise NotImplementedError(type(self).__name__)

    def _quantised(self, a: Int64s, b: Int64s) -> Int64s:
        """Compute the output less its zero point from operands less theirs."""
        raise NotImplementedError(type(self).__name__)

    def _rescaled_sum(self, a: Int64s, b: Int64s, sign: int) -> Int64s:
        """Return a + sign * b: both shifted left, brought to twice the larger scale, added, and
        brought to the output's scale.
        """
        shift = 20 if self.output.type.dtype is not DType.INT16 else 15
        scales = [np.float32(v.type.scale) for v in (self.a, self.b, self.output)]
        twice_larger = np.float64(2 * max(scales[0], scales[1]))
        first, second = (
            Multiplier.of(np.float64(scale) / twice_larger).apply(x << shift)
            for scale, x in ((scales[0], a), (scales[1], b))
        )
        to_output = Multiplier.of(twice_larger / (2.0**shift * np.float64(scales[2])))
        return to_output.apply(first + sign * second)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Summed(_Arithmetic):
    """A sum or a difference. `shifted`: int16 scales are powers of two, operands only shifted.

    # Ref: LiteRT 2.3, tflite/kernels/add.cc, sub.cc (Prepare), internal/reference/add.h, sub.h
    """

    shifted: bool = False
    sign: ClassVar[int]

    def check(self) -> list[str]:
        if not self.shifted:
            return super().check()
        shifts = self._shifts
        if shifts is None:
            return [*super().check(), "int16 scales must be powers of two to be shifted"]
        problems = [] if self.a.shape == self.b.shape else ["operands of other shapes are shifted"]
        if max(shifts) != 0:
            problems.append("int16 scales are powers of two, the operands' larger one must be the"
                            " output's")  # fmt: skip
        return [*super().check(), *problems]

    @cached_property
    def _shifts(self) -> tuple[int, int] | None:
        """Exponents that bring the operands to the output's scale; None for any scales."""
        return power_of_two_shifts(self.a, self.b, self.output)

    def _quantised(self, a: Int64s, b: Int64s) -> Int64s:
        if not self.shifted or self._shifts is None:
            return self._rescaled_sum(a, b, self.sign)
        first, second = (
            rounding_divide_by_pot(x, -shift) for x, shift in zip((a, b), self._shifts, strict=True)
        )
        return first + self.sign * second


def power_of_two_shifts(a: Value, b: Value, out: Value) -> tuple[int, int] | None:
    """Return the exponents that bring int16 operands to a result's scale.

    None unless all three are int16 tensors whose scales are powers of two.
    """
    if any(v.type.dtype is not DType.INT16 for v in (a, b, out)):
        return None
    first, second, third = (log2_exact(v.type.scale) for v in (a, b, out))
    if first is None or second is None or third is None:
        return None
    return first - third, second - third


class Add(_Summed):
    """Sum of two quantised tensors, each with its own scale."""

    mnemonic: ClassVar[str] = "add"
    tflite_name: ClassVar[str] = "ADD"
    sign: ClassVar[int] = 1

    def _plain(self, a: Array, b: Array) -> Array:
        return a + b


class Sub(_Summed):
    """Difference a - b of two quantised tensors, each with its own scale."""

    mnemonic: ClassVar[str] = "sub"
    tflite_name: ClassVar[str] = "SUB"
    sign: ClassVar[int] = -1

    def _plain(self, a: Array, b: Array) -> Array:
        return a - b


class Mul(_Arithmetic):
    """Product of two quantised tensors, each with its own scale."""

    mnemonic: ClassVar[str] = "mul"
    tflite_name: ClassVar[str] = "MUL"

    def _plain(self, a: Array, b: Array) -> Array:
        return a * b

    def _quantised(self, a: Int64s, b: Int64s) -> Int64s:
        scales = [np.float32(v.type.scale) for v in (self.a, self.b, self.output)]
        multiplier = Multiplier.of(scales[0] * scales[1] / scales[2])
        return multiplier.apply(wrap_int32(a * b))


class Div(_Arithmetic):
    """Quotient a / b of two quantised tensors; a divisor of zero is an error, but for float32.

    # Ref: LiteRT 2.3, tflite/kernels/div.cc, internal/reference/div.h
    """

    mnemonic: ClassVar[str] = "div"
    tflite_name: ClassVar[str] = "DIV"

    def _plain(self, a: Array, b: Array) -> Array:
        if a.dtype.kind == "f":
            with np.errstate(all="ignore"):
                return np.asarray(a / b)
        self._need_divisors(b, 0)
        return wrap_int32(_truncated(a.astype(np.int64), b.astype(np.int64))).astype(np.int32)

    def _computed(self, a: Array, b: Array) -> Array:
        self._need_divisors(b, self.b.type.zero_point)
        return super()._computed(a, b)

    def _looked_up(self, a: Array, b: Array) -> Array:
        return self._computed(a, b)  # the table would hold divisors of zero

    def _need_divisors(self, b: Array, zero: int) -> None:
        if np.any(b == zero):
            raise rules.unsupported(self, "a divisor is 0, must be another number")

    def _quantised(self, a: Int64s, b: Int64s) -> Int64s:
        scales = [np.float32(v.type.scale) for v in (self.a, self.b, self.output)]
        multiplier = Multiplier.of(scales[0] / (scales[1] * scales[2]))
        a, b = np.where(b < 0, -a, a), np.abs(b)
        inverse, over = fixedpoint.reciprocal(b, 31)
        bits = np.where(a < 0, ~a, a)
        headroom = 31 - np.frexp(bits.astype(np.float64))[1].astype(np.int64)
        quotient = saturating_rounding_doubling_high_mul(a << headroom, inverse)
        # TFLite's shift is undefined beyond 31 bits, where the quotient is below half a step.
        shift = multiplier.shift - over - headroom
        scaled = saturating_rounding_doubling_high_mul(quotient, multiplier.quantized)
        return rounding_divide_by_pot(scaled, np.maximum(-shift, 0))


def _truncated(a: Int64s, b: Int64s) -> Int64s:
    """Return a / b truncated toward zero, as C divides."""
    quotient: Int64s = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient)


class FloorDiv(_Binary):
    """a / b rounded down, of the stored numbers; a divisor of zero is an error."""

    mnemonic: ClassVar[str] = "floor_div"
    tflite_name: ClassVar[str] = "FLOOR_DIV"

    def missing_kernel(self) -> str:
        return "" if self.a.type.dtype in _DIVIDED else rules.no_kernel(self.a, self.b)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        a, b = rules.present(operands[0]), rules.present(operands[1])
        if np.any(b == 0):
            raise rules.unsupported(self, "a divisor is 0, must be another number")
        if a.dtype.kind == "f":
            return (np.asarray(np.floor(a / b)),)
        with np.errstate(over="ignore"):
            return (np.asarray(a // b),)


class SquaredDifference(_Binary):
    """The square of a - b, of int8 each with its own scale.

    # Ref: LiteRT 2.3, tflite/kernels/squared_difference.cc
    """

    mnemonic: ClassVar[str] = "squared_difference"
    tflite_name: ClassVar[str] = "SQUARED_DIFFERENCE"

    def check(self) -> list[str]:
        return [*super().check(), *rules.quantised(self.a, self.b, self.output)]

    def missing_kernel(self) -> str:
        return "" if self.a.type.dtype in _SQUARED else rules.no_kernel(self.a, self.b)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        a, b = rules.present(operands[0]), rules.present(operands[1])
        if self.a.type.dtype is not DType.INT8:
            return (np.asarray((a - b) * (a - b)),)
        scales = [np.float32(v.type.scale) for v in (self.a, self.b)]
        twice = np.float64(2 * max(scales))
        first, second = (
            Multiplier.of(np.float64(scale) / twice).apply(
                (x.astype(np.int64) - value.type.zero_point) << _SQUARED_SHIFT
            )
            for scale, x, value in zip(scales, (a, b), (self.a, self.b), strict=True)
        )
        whole = np.float64(np.float32(1 << 2 * _SQUARED_SHIFT) * np.float32(self.output.type.scale))
        squared = Multiplier.of(twice * twice / whole).apply((first - second) ** 2)
        y = self.output.type
        return (rules.quantise(squared, y, y.dtype.range),)


class _Choice(_Binary):
    """One of two values, compared as they are stored."""

    choose: ClassVar[Callable[[Array, Array], Array]]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        a, b = rules.present(operands[0]), rules.present(operands[1])
        return (np.asarray(type(self).choose(a, b)),)


class Maximum(_Choice):
    """The larger of two values; operands and result share one quantisation."""

    mnemonic: ClassVar[str] = "maximum"
    tflite_name: ClassVar[str] = "MAXIMUM"
    choose: ClassVar[Callable[[Array, Array], Array]] = np.maximum


class Minimum(_Choice):
    """The smaller of two values; operands and result share one quantisation."""

    mnemonic: ClassVar[str] = "minimum"
    tflite_name: ClassVar[str] = "MINIMUM"
    choose: ClassVar[Callable[[Array, Array], Array]] = np.minimum
