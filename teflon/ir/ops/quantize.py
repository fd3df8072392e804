"""Change of element type: quantise, dequantise, cast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import Multiplier, dequantize, quantize_real
from teflon.ir.types import Array, DType, TensorType

_QUANTIZED = {
    DType.FLOAT32: rules.QUANTISED,
    DType.UINT8: rules.QUANTISED,
    DType.INT8: rules.QUANTISED,
    DType.INT16: (DType.INT8, DType.INT16, DType.INT32),
    DType.INT32: (DType.INT8, DType.INT16),
}
"""Input type -> output types that a kernel exists for."""

_CAST = tuple(d for d in DType if d not in (DType.UINT64, DType.OTHER))


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Op):
    """From float32 to quantised numbers, or from one quantisation to another."""

    mnemonic: ClassVar[str] = "quantize"
    tflite_name: ClassVar[str] = "QUANTIZE"

    input: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(self.output.type.dtype, self.input.shape),)

    def check(self) -> list[str]:
        problems = []
        if not self.output.type.dtype.is_quantizable:
            problems.append(f"{rules.describe(self.output)}, must be of a quantised type")
        elif self.output.type.quantization is None:
            problems.append(f"{self.output.name!r} has no quantisation, must have a scale")
        if self.input.type.dtype.is_quantizable and self.input.type.quantization is None:
            problems.append(f"{self.input.name!r} has no quantisation, must have a scale")
        return problems + rules.usable_scales(self.input) + rules.usable_scales(self.output)

    def missing_kernel(self) -> str:
        if self.output.type.dtype in _QUANTIZED.get(self.input.type.dtype, ()):
            return ""
        return rules.no_kernel(self.input, self.output)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        source, target = self.input.type, self.output.type
        if source.dtype is DType.FLOAT32:
            return (quantize_real(x, target),)
        multiplier = Multiplier.of(np.float64(source.scale) / np.float64(target.scale))
        value = multiplier.apply(x.astype(np.int64) - source.zero_point)
        return (rules.quantise(value, target, target.dtype.range),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dequantize(Op):
    """From quantised numbers, or float16, to float32."""

    mnemonic: ClassVar[str] = "dequantize"
    tflite_name: ClassVar[str] = "DEQUANTIZE"

    input: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(DType.FLOAT32, self.input.shape),)

    def check(self) -> list[str]:
        if self.input.type.dtype in rules.EIGHT_BIT and self.input.type.quantization is None:
            return [f"{self.input.name!r} has no quantisation, must have a scale"]
        return rules.usable_scales(self.input)

    def missing_kernel(self) -> str:
        return rules.outside(self.input, DType.FLOAT16, *rules.QUANTISED)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype is DType.FLOAT16:
            return (x.astype(np.float32),)
        return (dequantize(x, self.input.type),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cast(Op):
    """The stored numbers in another element type; scales and zero points are ignored.

    Real numbers lose their fraction when they become integers, and saturate; a NaN becomes the
    largest integer. Integers keep their lowest bits. Every number but zero becomes true. Of complex
    numbers only the real part is taken.

    # Ref: LiteRT 2.3, tflite/kernels/cast.cc
    """

    mnemonic: ClassVar[str] = "cast"
    tflite_name: ClassVar[str] = "CAST"

    input: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(self.output.type.dtype, self.input.shape),)

    def check(self) -> list[str]:
        return [p for v in (self.input, self.output) for p in rules.element_type(v, *_CAST)]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, target = rules.present(operands[0]), self.output.type.dtype
        if target is not DType.COMPLEX64:
            x = x.real
        if x.dtype.kind == "f" and target.numpy.kind in "iu":
            return (_saturated(x, target),)
        with np.errstate(over="ignore"):
            if target is DType.FLOAT16:  # TFLite goes by float32, and rounds twice
                x = x.astype(np.float32)
            return (x.astype(target.numpy),)


def _saturated(x: Array, target: DType) -> Array:
    """Return real numbers without fraction, within an integer type; for a NaN its largest."""
    least, most = target.range
    whole = np.trunc(x.astype(np.float64))
    inside = whole < most + 1.0  # exact in float64 for each type; false for a NaN
    kept = np.where(inside, np.maximum(whole, least), 0)
    return np.where(inside, kept.astype(target.numpy), target.numpy.type(most))
