"""Join several tensors to one, cut one into several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import round_half_away
from teflon.ir.types import Activation, Array, DType, TensorType


@dataclass(frozen=True, eq=False, kw_only=True)
class Concatenation(Op):
    """Join along an axis (non-negative); uint8 inputs with another quantisation are requantised."""

    mnemonic: ClassVar[str] = "concatenation"
    tflite_name: ClassVar[str] = "CONCATENATION"

    inputs: tuple[Value, ...]
    output: Value
    axis: int
    activation: Activation = Activation.NONE

    def infer(self) -> tuple[TensorType, ...]:
        if not self.inputs:
            raise ValueError("has no inputs, must have one or more")
        first = self.inputs[0]
        rules.need_axis(self.axis, first.type.rank)
        for value in self.inputs[1:]:
            rules.need_rank(value, first.type.rank)
            if rules.without(value.shape, self.axis) != rules.without(first.shape, self.axis):
                raise ValueError(
                    f"{rules.describe(value)}, must differ from {rules.describe(first)}"
                    f" along axis {self.axis} only"
                )
        total = sum(v.shape[self.axis] for v in self.inputs)
        shape = (*first.shape[: self.axis], total, *first.shape[self.axis + 1 :])
        return (TensorType(first.type.dtype, shape),)

    def check(self) -> list[str]:
        if not self.inputs:
            return []
        problems = rules.same_dtype(*self.inputs) + rules.usable_scales(self.output)
        if self.activation is not Activation.NONE:
            problems.append(f"activation is {self.activation.value}, must be none")
        if self.output.type.dtype in (DType.INT8, DType.INT16):
            problems += rules.same_quantisation(self.output, *self.inputs)
        return problems

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        arrays = [rules.present(x) for x in operands]
        if self.output.type.dtype is DType.UINT8 and self.output.type.quantization is not None:
            pairs = zip(arrays, self.inputs, strict=True)
            arrays = [self._requantised(x, value.type) for x, value in pairs]
        return (np.concatenate(arrays, self.axis),)

    def _requantised(self, x: Array, source: TensorType) -> Array:
        """Return uint8 values on the output's scale; all of it in float32."""
        target = self.output.type
        if (source.scale, source.zero_point) == (target.scale, target.zero_point):
            return x
        scales = source.scale, source.zero_point, target.scale, target.zero_point
        return _rescaling(*scales).take(x)


def _rescaling(scale: float, zero_point: int, new_scale: float, new_zero_point: int) -> Array:
    """Return what each uint8 value is on another scale, computed in float32."""
    factor = np.float32(scale) * (np.float32(1) / np.float32(new_scale))
    bias = np.float32(-zero_point) * factor
    real = round_half_away(np.arange(256, dtype=np.float32) * factor + bias)
    return np.clip(real.astype(np.int64) + new_zero_point, 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False, kw_only=True)
class Split(Op):
    """Cut into equal parts along an axis (non-negative)."""

    mnemonic: ClassVar[str] = "split"
    tflite_name: ClassVar[str] = "SPLIT"

    input: Value
    outputs: tuple[Value, ...]
    axis: int

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_axis(self.axis, self.input.type.rank)
        parts, size = len(self.outputs), self.input.shape[self.axis]
        if parts == 0 or size % parts:
            raise ValueError(f"axis {self.axis} has size {size}, must divide into {parts} parts")
        before, after = self.input.shape[: self.axis], self.input.shape[self.axis + 1 :]
        return (TensorType(self.input.type.dtype, (*before, size // parts, *after)),) * parts

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return tuple(np.split(rules.present(operands[0]), len(self.outputs), self.axis))


@dataclass(frozen=True, eq=False, kw_only=True)
class SplitV(Op):
    """Cut into parts of these sizes along an axis (non-negative)."""

    mnemonic: ClassVar[str] = "split_v"
    tflite_name: ClassVar[str] = "SPLIT_V"

    input: Value
    outputs: tuple[Value, ...]
    axis: int
    sizes: tuple[int, ...]

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_axis(self.axis, self.input.type.rank)
        size = self.input.shape[self.axis]
        if min(self.sizes, default=0) < 0 or sum(self.sizes) != size:
            raise ValueError(
                f"sizes are {list(self.sizes)}, must be 0 or more and add up to {size}"
            )
        before, after = self.input.shape[: self.axis], self.input.shape[self.axis + 1 :]
        return tuple(TensorType(self.input.type.dtype, (*before, n, *after)) for n in self.sizes)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        places = np.cumsum(self.sizes)[:-1]
        return tuple(np.split(rules.present(operands[0]), places, self.axis))


@dataclass(frozen=True, eq=False, kw_only=True)
class Pack(Op):
    """Join along a new axis (non-negative)."""

    mnemonic: ClassVar[str] = "pack"
    tflite_name: ClassVar[str] = "PACK"

    inputs: tuple[Value, ...]
    output: Value
    axis: int

    def infer(self) -> tuple[TensorType, ...]:
        if not self.inputs:
            raise ValueError("has no inputs, must have one or more")
        first = self.inputs[0]
        rules.need_axis(self.axis, first.type.rank + 1)
        for value in self.inputs[1:]:
            if value.shape != first.shape:
                raise ValueError(
                    f"{rules.describe(value)}, must have the shape {list(first.shape)}"
                )
        shape = (*first.shape[: self.axis], len(self.inputs), *first.shape[self.axis :])
        return (TensorType(first.type.dtype, shape),)

    def check(self) -> list[str]:
        if not self.inputs:
            return []
        return [
            *rules.same_dtype(*self.inputs),
            *rules.same_quantisation(self.output, *self.inputs),
        ]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return (np.stack([rules.present(x) for x in operands], self.axis),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Unpack(Op):
    """Cut into slices along an axis (non-negative), which disappears."""

    mnemonic: ClassVar[str] = "unpack"
    tflite_name: ClassVar[str] = "UNPACK"

    input: Value
    outputs: tuple[Value, ...]
    axis: int

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_axis(self.axis, self.input.type.rank)
        size = self.input.shape[self.axis]
        if len(self.outputs) != size:
            raise ValueError(f"has {len(self.outputs)} results, must have {size}")
        shape = rules.without(self.input.shape, self.axis)
        return (TensorType(self.input.type.dtype, shape),) * size

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return tuple(np.moveaxis(rules.present(operands[0]), self.axis, 0))
