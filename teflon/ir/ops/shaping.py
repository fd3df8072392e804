"""Change the shape and keep the elements: pad, reshape, permute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.types import Array, TensorType


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Op):
    """Grow each axis; new elements are the output's zero point (PAD) or `value` (PADV2, scalar)."""

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
