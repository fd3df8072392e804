"""Change the shape and keep the elements: pad, reshape, permute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

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
        return (_grown(self.input, self.before, self.after),)

    def check(self) -> list[str]:
        problems = rules.at_least("before", self.before, 0) + rules.at_least("after", self.after, 0)
        if self.value is not None:
            problems += rules.same_dtype(self.input, self.value)
            if self.value.type.size != 1:
                problems.append(f"{rules.describe(self.value)}, must be one number")
        return problems

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, value = rules.present(operands[0]), operands[1]
        filler = self.output.type.zero_point if value is None else value.reshape(-1)[0]
        sides = list(zip(self.before, self.after, strict=True))
        return (np.pad(x, sides, constant_values=filler),)


@dataclass(frozen=True, eq=False, kw_only=True)
class MirrorPad(Op):
    """Grow each axis by its own elements, mirrored; `reflect`: without the one at the edge."""

    mnemonic: ClassVar[str] = "mirror_pad"
    tflite_name: ClassVar[str] = "MIRROR_PAD"

    input: Value
    output: Value
    before: tuple[int, ...]
    after: tuple[int, ...]
    reflect: bool = True

    def infer(self) -> tuple[TensorType, ...]:
        return (_grown(self.input, self.before, self.after),)

    def check(self) -> list[str]:
        problems = rules.at_least("before", self.before, 0) + rules.at_least("after", self.after, 0)
        for axis, sizes in enumerate(zip(self.before, self.after, self.input.shape, strict=False)):
            most = max(sizes[2] - self.reflect, 0)
            if max(sizes[:2]) > most:
                problems.append(f"axis {axis} grows by {max(sizes[:2])}, must by at most {most}")
        return problems + rules.same_quantisation(self.input, self.output)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        sides = list(zip(self.before, self.after, strict=True))
        mode: Literal["reflect", "symmetric"] = "reflect" if self.reflect else "symmetric"
        return (np.pad(rules.present(operands[0]), sides, mode),)


def _grown(value: Value, before: tuple[int, ...], after: tuple[int, ...]) -> TensorType:
    """Return a tensor's type with each axis grown; raises ValueError unless all are named."""
    rank = value.type.rank
    for name, sizes in (("before", before), ("after", after)):
        if len(sizes) != rank:
            raise ValueError(f"{name} is {list(sizes)}, must have {rank} sizes")
    axes = zip(before, value.shape, after, strict=True)
    return TensorType(value.type.dtype, tuple(sum(sizes) for sizes in axes))


@dataclass(frozen=True, eq=False, kw_only=True)
class Tile(Op):
    """Repeat along each axis."""

    mnemonic: ClassVar[str] = "tile"
    tflite_name: ClassVar[str] = "TILE"

    input: Value
    output: Value
    multiples: tuple[int, ...]

    def infer(self) -> tuple[TensorType, ...]:
        rank = self.input.type.rank
        if len(self.multiples) != rank:
            raise ValueError(f"multiples are {list(self.multiples)}, must be {rank} numbers")
        sizes = zip(self.input.shape, self.multiples, strict=True)
        return (TensorType(self.input.type.dtype, tuple(n * max(m, 0) for n, m in sizes)),)

    def check(self) -> list[str]:
        return [
            *rules.at_least("multiples", self.multiples, 0),
            *rules.same_quantisation(self.input, self.output),
        ]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return (np.tile(rules.present(operands[0]), self.multiples),)


@dataclass(frozen=True, eq=False, kw_only=True)
class ExpandDims(Op):
    """Add an axis of size one (non-negative: its place in the result)."""

    mnemonic: ClassVar[str] = "expand_dims"
    tflite_name: ClassVar[str] = "EXPAND_DIMS"

    input: Value
    output: Value
    axis: int

    def infer(self) -> tuple[TensorType, ...]:
        shape = self.input.shape
        rules.need_axis(self.axis, len(shape) + 1)
        return (TensorType(self.input.type.dtype, (*shape[: self.axis], 1, *shape[self.axis :])),)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return (rules.present(operands[0]).reshape(self.output.shape),)


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

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
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

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
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

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return (np.ascontiguousarray(rules.present(operands[0]).transpose(self.perm)),)
