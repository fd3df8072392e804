"""Activation functions that stand alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir import fixedpoint
from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.ops.unary import Tabulated, Unary
from teflon.ir.quantized import (
    Multiplier,
    doubling_high_mul_int16,
    exp_float32,
    logistic,
    quantize_bound,
    reduce_to_int16,
    rounding_divide_by_pot,
    saturating_left_shift,
    saturating_rounding_doubling_high_mul,
)
from teflon.ir.types import Array, DType, TensorType


class _Clamp(Unary):
    """A clamp between two real numbers, with a change of scale."""

    low: ClassVar[float]
    high: ClassVar[float | None] = None

    def missing_kernel(self) -> str:
        return rules.outside(self.input, DType.FLOAT32, *rules.QUANTISED)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype is DType.FLOAT32:
            high = None if self.high is None else np.float32(self.high)
            return (np.asarray(np.clip(x, np.float32(self.low), high)),)
        least, most = self.output.type.dtype.range
        least = max(least, quantize_bound(self.low, self.output.type))
        if self.high is not None:
            most = min(most, quantize_bound(self.high, self.output.type))
        return (self.rescaled(self.centred(x), self.identity(), (least, most)),)


class Relu(_Clamp):
    """max(x, 0)."""

    mnemonic: ClassVar[str] = "relu"
    tflite_name: ClassVar[str] = "RELU"
    low: ClassVar[float] = 0.0


class Relu6(_Clamp):
    """min(max(x, 0), 6)."""

    mnemonic: ClassVar[str] = "relu6"
    tflite_name: ClassVar[str] = "RELU6"
    low: ClassVar[float] = 0.0
    high: ClassVar[float | None] = 6.0


class Relu0To1(_Clamp):
    """min(max(x, 0), 1)."""

    mnemonic: ClassVar[str] = "relu_0_to_1"
    tflite_name: ClassVar[str] = "RELU_0_TO_1"
    low: ClassVar[float] = 0.0
    high: ClassVar[float | None] = 1.0


class ReluN1To1(_Clamp):
    """min(max(x, -1), 1)."""

    mnemonic: ClassVar[str] = "relu_n1_to_1"
    tflite_name: ClassVar[str] = "RELU_N1_TO_1"
    low: ClassVar[float] = -1.0
    high: ClassVar[float | None] = 1.0


@dataclass(frozen=True, eq=False, kw_only=True)
class LeakyRelu(Unary):
    """x for x >= 0, alpha * x below."""

    mnemonic: ClassVar[str] = "leaky_relu"
    tflite_name: ClassVar[str] = "LEAKY_RELU"

    alpha: float

    def check(self) -> list[str]:
        problems = super().check()
        if not math.isfinite(self.alpha):
            problems.append(f"alpha is {self.alpha:g}, must be finite")
        return problems

    def missing_kernel(self) -> str:
        return rules.outside(self.input, DType.FLOAT32, *rules.QUANTISED)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        alpha = np.float32(self.alpha)
        if self.input.type.dtype is DType.FLOAT32:
            return (np.where(x > 0, x, x * alpha),)
        scale = np.float32(self.input.type.scale) * alpha / np.float32(self.output.type.scale)
        below = Multiplier.of(scale)
        centred = self.centred(x)
        value = np.where(centred >= 0, self.identity().apply(centred), below.apply(centred))
        y = self.output.type
        return (rules.quantise(value, y, y.dtype.range),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Prelu(Unary):
    """x for x >= 0, alpha * x below, with an alpha for each element: alpha broadcasts to x.

    # Ref: LiteRT 2.3, tflite/kernels/activations.cc, internal/reference/prelu.h
    """

    mnemonic: ClassVar[str] = "prelu"
    tflite_name: ClassVar[str] = "PRELU"

    alpha: Value

    def infer(self) -> tuple[TensorType, ...]:
        if rules.broadcast(self.input, self.alpha) != self.input.shape:
            raise ValueError(
                f"{rules.describe(self.alpha)}, must broadcast to {list(self.input.shape)}"
            )
        return super().infer()

    def check(self) -> list[str]:
        return [
            *super().check(),
            *rules.same_dtype(self.input, self.alpha),
            *rules.quantised(self.alpha),
        ]

    def missing_kernel(self) -> str:
        return rules.outside(self.input, DType.FLOAT32, *rules.EIGHT_BIT)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, alpha = rules.present(operands[0]), rules.present(operands[1])
        if self.input.type.dtype is DType.FLOAT32:
            return (np.where(x >= 0, x, x * alpha),)
        scales = [np.float32(v.type.scale) for v in (self.input, self.alpha, self.output)]
        below = Multiplier.of(scales[0] * scales[1] / scales[2])
        centred = self.centred(x)
        slope = alpha.astype(np.int64) - self.alpha.type.zero_point
        value = np.where(centred >= 0, self.identity().apply(centred), below.apply(centred * slope))
        y = self.output.type
        return (rules.quantise(value, y, y.dtype.range),)


class HardSwish(Unary):
    """x * relu6(x + 3) / 6."""

    mnemonic: ClassVar[str] = "hard_swish"
    tflite_name: ClassVar[str] = "HARD_SWISH"

    def missing_kernel(self) -> str:
        if self.input.type.dtype in rules.EIGHT_BIT and int(self._to_output.shift) > 0:
            return "output scale is below 1/128 of the input's, must be larger"
        return rules.outside(self.input, DType.FLOAT32, *rules.EIGHT_BIT)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype is DType.FLOAT32:
            three, six = np.float32(3), np.float32(6)
            gate = np.minimum(six, np.maximum(np.float32(0), x + three))
            return (np.asarray(x * gate / six),)
        to_output = self._to_output
        hires = self.centred(x) << 7  # seven more bits fit an int16
        preshift = saturating_rounding_doubling_high_mul(
            hires, reduce_to_int16(to_output.quantized), bits=16
        )
        # Truncation here cancels the upward bias of the rounding steps before it.
        value = doubling_high_mul_int16(self._gate(hires), preshift)
        value = rounding_divide_by_pot(value, -to_output.shift)
        y = self.output.type
        return (rules.quantise(value, y, y.dtype.range),)

    @property
    def _to_output(self) -> Multiplier:
        return self._factor(np.float32(self.output.type.scale))

    def _factor(self, scale: np.float32) -> Multiplier:
        hires_scale = np.float32(1 / 128) * np.float32(self.input.type.scale)
        return Multiplier.of(hires_scale / scale)

    def _gate(self, hires: Array) -> Array:
        """Return relu6(x + 3) / 6 in Q0.15."""
        factor = self._factor(np.float32(3) / np.float32(32768))
        exponent = int(factor.shift)
        value = hires
        if exponent > 0:  # the last doubling comes after the multiplication: only it saturates
            value = saturating_left_shift(value, exponent - 1)
        value = saturating_rounding_doubling_high_mul(
            value, reduce_to_int16(factor.quantized), bits=16
        )
        if exponent > 0:
            value = saturating_left_shift(value, 1)
        if exponent < 0:
            value = rounding_divide_by_pot(value, -exponent)
        return (value + (1 << 15)) >> 1


class Logistic(Tabulated):
    """1 / (1 + exp(-x))."""

    mnemonic: ClassVar[str] = "logistic"
    tflite_name: ClassVar[str] = "LOGISTIC"

    def check(self) -> list[str]:
        problems = super().check()
        scale = self.output.type.scale
        if not problems and self.output.type.dtype in rules.EIGHT_BIT and scale != 1 / 256:
            problems.append(f"{self.output.name!r} has scale {scale:g}, must have 1/256")
        return problems

    def real(self, x: Array) -> Array:
        return logistic(x)


class Tanh(Tabulated):
    """Hyperbolic tangent."""

    mnemonic: ClassVar[str] = "tanh"
    tflite_name: ClassVar[str] = "TANH"

    def real(self, x: Array) -> Array:
        return np.tanh(x.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class Softmax(Op):
    """exp(beta * x) normalised over the last axis."""

    mnemonic: ClassVar[str] = "softmax"
    tflite_name: ClassVar[str] = "SOFTMAX"

    input: Value
    output: Value
    beta: float = 1.0

    def infer(self) -> tuple[TensorType, ...]:
        if self.input.type.rank < 1:
            raise ValueError(f"{rules.describe(self.input)}, must have 1 dimension or more")
        x, y = self.input.type.dtype, self.output.type.dtype
        widened = x in rules.EIGHT_BIT and y is DType.INT16
        return (TensorType(y if widened else x, self.input.shape),)

    def check(self) -> list[str]:
        problems = rules.quantised(self.input, self.output)
        if not (math.isfinite(self.beta) and self.beta > 0):
            problems.append(f"beta is {self.beta:g}, must be above 0 and finite")
        y = self.output.type
        if problems or y.dtype is not DType.INT8:
            return problems
        if y.zero_point != -128 or abs(y.scale * 256 - 1) > 0.001:
            problems.append(
                f"{self.output.name!r} has scale {y.scale:g} and zero point {y.zero_point},"
                " must have 1/256 and -128"
            )
        return problems

    def missing_kernel(self) -> str:
        if self.input.type.dtype not in rules.EIGHT_BIT:
            return rules.outside(self.input, DType.FLOAT32)
        try:
            fixedpoint.softmax_scaling(self.beta, self.input.type.scale)
        except ValueError as error:
            return str(error)
        return ""

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype is DType.FLOAT32:
            return (self._real(x),)
        return (fixedpoint.softmax(x, self.beta, self.input.type, self.output.type),)

    def _real(self, x: Array) -> Array:
        powers = exp_float32((x - x.max(axis=-1, keepdims=True)) * np.float32(self.beta))
        total = np.add.accumulate(powers, axis=-1)[..., -1:]  # one by one, as the kernel adds
        return powers / total


class Abs(Unary):
    """Absolute value."""

    mnemonic: ClassVar[str] = "abs"
    tflite_name: ClassVar[str] = "ABS"

    def missing_kernel(self) -> str:
        dtype = self.input.type.dtype
        if dtype in (DType.INT8, DType.INT16) and self.input.type.quantization is not None:
            return ""
        return rules.outside(self.input, DType.FLOAT32, DType.INT32)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype in (DType.FLOAT32, DType.INT32):
            return (np.asarray(np.abs(x)),)
        value = np.abs(self.centred(x))
        clamp = self.output.type.dtype.range
        if self.input.type.scale != self.output.type.scale:
            return (self.rescaled(value, self.identity(), clamp),)
        return (rules.quantise(value, self.output.type, clamp),)
