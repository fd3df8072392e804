"""Parts of a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.types import Array, TensorType


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
