"""Data movement: the values stay, their places change."""

from __future__ import annotations

import functools
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
            if _without(value.shape, self.axis) != _without(first.shape, self.axis):
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

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
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


@functools.lru_cache(maxsize=256)
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

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        return tuple(np.split(rules.present(operands[0]), len(self.outputs), self.axis))


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

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
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
        shape = _without(self.input.shape, self.axis)
        return (TensorType(self.input.type.dtype, shape),) * size

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        return tuple(np.moveaxis(rules.present(operands[0]), self.axis, 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Op):
    """Grow each axis; filled with the output's zero point (PAD) or with `value` (PADV2, scalar)."""

    mnemonic: ClassVar[str] = "pad"
    tflite_name: ClassVar[str] = "PAD"

    input: Value
    value: Value | None = None
    output: Value
    before: tuple[int, ...]
    after: tuple[int, ...]

    def infer(self) -> tuple[TensorType, ...]:
        rank = self.input.type.rank
        for name, sizes in (("before", self.before), ("after", self.after)):
            if len(sizes) != rank:
                raise ValueError(f"{name} is {list(sizes)}, must have {rank} sizes")
        axes = zip(self.before, self.input.shape, self.after, strict=True)
        return (TensorType(self.input.type.dtype, tuple(sum(sizes) for sizes in axes)),)

    def check(self) -> list[str]:
        problems = rules.at_least("before", self.before, 0) + rules.at_least("after", self.after, 0)
        if self.value is not None:
            problems += rules.same_dtype(self.input, self.value)
            if self.value.type.size != 1:
                problems.append(f"{rules.describe(self.value)}, must be one number")
        return problems

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        x, value = rules.present(operands[0]), operands[1]
        filler = self.output.type.zero_point if value is None else value.reshape(-1)[0]
        sides = list(zip(self.before, self.after, strict=True))
        return (np.pad(x, sides, constant_values=filler),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Op):
    """The same elements in the output's shape."""

    mnemonic: ClassVar[str] = "reshape"
    tflite_name: ClassVar[str] = "RESHAPE"

    input: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        if self.output.type.size != self.input.type.size:
            raise ValueError(
                f"result {self.output.name!r} is {list(self.output.shape)}, must have the"
                f" {self.input.type.size} elements of {list(self.input.shape)}"
            )
        return (TensorType(self.input.type.dtype, self.output.shape),)

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        return (rules.present(operands[0]).reshape(self.output.shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Squeeze(Op):
    """Drop axes of size one (non-negative; none named: all of them)."""

    mnemonic: ClassVar[str] = "squeeze"
    tflite_name: ClassVar[str] = "SQUEEZE"

    input: Value
    output: Value
    axes: tuple[int, ...] = ()

    def infer(self) -> tuple[TensorType, ...]:
        shape = self.input.shape
        rules.need_axes(self.axes, len(shape))
        for axis in self.axes:
            if shape[axis] != 1:
                raise ValueError(f"axis {axis} has size {shape[axis]}, must have size 1")
        dropped = self.axes or [a for a, size in enumerate(shape) if size == 1]
        kept = tuple(size for a, size in enumerate(shape) if a not in dropped)
        return (TensorType(self.input.type.dtype, kept),)

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        return (rules.present(operands[0]).reshape(self.output.shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Transpose(Op):
    """Permute the axes: output axis i is input axis perm[i]."""

    mnemonic: ClassVar[str] = "transpose"
    tflite_name: ClassVar[str] = "TRANSPOSE"

    input: Value
    output: Value
    perm: tuple[int, ...]

    def infer(self) -> tuple[TensorType, ...]:
        if sorted(self.perm) != list(range(self.input.type.rank)):
            raise ValueError(
                f"perm is {list(self.perm)}, must name each of {self.input.type.rank} axes once"
            )
        shape = tuple(self.input.shape[axis] for axis in self.perm)
        return (TensorType(self.input.type.dtype, shape),)

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        return (np.ascontiguousarray(rules.present(operands[0]).transpose(self.perm)),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Op):
    """A box of the input: `begin` and `size` for each axis, size resolved (never -1)."""

    mnemonic: ClassVar[str] = "slice"
    tflite_name: ClassVar[str] = "SLICE"

    input: Value
    output: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]

    def infer(self) -> tuple[TensorType, ...]:
        shape = self.input.shape
        if not len(self.begin) == len(self.size) == len(shape):
            raise ValueError(
                f"begin is {list(self.begin)} and size {list(self.size)},"
                f" must have {len(shape)} numbers each"
            )
        for begin, size, whole in zip(self.begin, self.size, shape, strict=True):
            if begin < 0 or size < 0 or begin + size > whole:
                raise ValueError(
                    f"begin {list(self.begin)} and size {list(self.size)},"
                    f" must lie inside {list(shape)}"
                )
        return (TensorType(self.input.type.dtype, self.size),)

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        box = tuple(slice(b, b + s) for b, s in zip(self.begin, self.size, strict=True))
        return (np.ascontiguousarray(rules.present(operands[0])[box]),)


@dataclass(frozen=True, eq=False, kw_only=True)
class StridedSlice(Op):
    """Every stride-th element from begin to before end, as Python's slices with masks resolved.

    begin, end, strides: one for each input axis; end -1 with a negative stride means *past the
    first element*. `shrink_axes` names the axes of size one that the output does not have.
    """

    mnemonic: ClassVar[str] = "strided_slice"
    tflite_name: ClassVar[str] = "STRIDED_SLICE"

    input: Value
    output: Value
    begin: tuple[int, ...]
    end: tuple[int, ...]
    strides: tuple[int, ...]
    shrink_axes: tuple[int, ...] = ()

    def infer(self) -> tuple[TensorType, ...]:
        rank = self.input.type.rank
        for name in ("begin", "end", "strides"):
            numbers = getattr(self, name)
            if len(numbers) != rank:
                raise ValueError(f"{name} is {list(numbers)}, must have {rank} numbers")
        if 0 in self.strides:
            raise ValueError(f"strides are {list(self.strides)}, must not be 0")
        rules.need_axes(self.shrink_axes, rank)
        steps = zip(self.begin, self.end, self.strides, strict=True)
        sizes = [max(0, -((begin - end) // stride)) for begin, end, stride in steps]
        for axis in self.shrink_axes:
            if sizes[axis] != 1:
                raise ValueError(f"shrunk axis {axis} has size {sizes[axis]}, must have size 1")
        kept = tuple(s for axis, s in enumerate(sizes) if axis not in self.shrink_axes)
        return (TensorType(self.input.type.dtype, kept),)

    def check(self) -> list[str]:
        problems = []
        numbers = zip(self.begin, self.end, self.strides, self.input.shape, strict=False)
        for axis, (begin, end, stride, size) in enumerate(numbers):
            count = max(0, -((begin - end) // (stride or 1)))
            last = begin + (count - 1) * stride
            if count and not (0 <= begin < size and 0 <= last < size):
                problems.append(
                    f"axis {axis} takes {begin}:{end}:{stride}, must lie within 0..{size - 1}"
                )
        return problems

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        steps = zip(self.begin, self.end, self.strides, strict=True)
        box = tuple(slice(b, None if s < 0 and e < 0 else e, s) for b, e, s in steps)
        taken = np.ascontiguousarray(rules.present(operands[0])[box])
        return (taken.reshape(self.output.shape),)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]
