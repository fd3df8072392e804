"""Take parts of a tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.types import Array, DType, TensorType

_GATHERED = (
    DType.FLOAT32, DType.FLOAT16, DType.UINT8, DType.INT8, DType.INT16, DType.INT32, DType.INT64,
    DType.BOOL,
)  # fmt: skip


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

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
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

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        steps = zip(self.begin, self.end, self.strides, strict=True)
        box = tuple(slice(b, None if s < 0 and e < 0 else e, s) for b, e, s in steps)
        taken = np.ascontiguousarray(rules.present(operands[0])[box])
        return (taken.reshape(self.output.shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class Gather(Op):
    """The slices of the input at given positions along an axis (non-negative).

    input [batch..., outer..., axis, inner...], positions [batch..., any shape...] of int16, int32
    or int64; output [batch..., outer..., any shape..., inner...]. The first `batch_dims` dimensions
    are the batch: each of its elements has its own positions. A position that is negative or beyond
    the axis is an error when the operation runs, as in TFLite.

    # Ref: LiteRT 2.3, tflite/kernels/gather.cc
    """

    mnemonic: ClassVar[str] = "gather"
    tflite_name: ClassVar[str] = "GATHER"

    input: Value
    positions: Value
    output: Value
    axis: int
    batch_dims: int = 0

    def infer(self) -> tuple[TensorType, ...]:
        shape, places, batch = self.input.shape, self.positions.shape, self.batch_dims
        rules.need_axis(self.axis, len(shape))
        if not 0 <= batch <= min(self.axis, len(places)):
            most = min(self.axis, len(places))
            raise ValueError(f"batch_dims is {batch}, must be within 0..{most}")
        if shape[:batch] != places[:batch]:
            raise ValueError(
                f"{rules.describe(self.positions)}, must begin with {list(shape[:batch])}"
            )
        gathered = (*shape[: self.axis], *places[batch:], *shape[self.axis + 1 :])
        return (TensorType(self.input.type.dtype, gathered),)

    def check(self) -> list[str]:
        return [
            *rules.element_type(self.input, *_GATHERED),
            *rules.element_type(self.positions, DType.INT16, DType.INT32, DType.INT64),
        ]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, positions = rules.present(operands[0]), rules.present(operands[1])
        size, batch = self.input.shape[self.axis], self.batch_dims
        wrong = positions[(positions < 0) | (positions >= size)]
        if wrong.size:
            raise rules.unsupported(self, f"position is {wrong[0]}, must be within 0..{size - 1}")
        groups, outer = math.prod(x.shape[:batch]), math.prod(x.shape[batch : self.axis])
        rows = x.reshape(groups, outer, size, math.prod(x.shape[self.axis + 1 :]))
        places = positions.reshape(groups, 1, math.prod(positions.shape[batch:]))
        taken = rows[np.arange(groups)[:, None, None], np.arange(outer)[:, None], places]
        return (taken.reshape(self.output.shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class GatherNd(Op):
    """The slices of the input at places given by several numbers each.

    input [first..., rest...], positions [any shape..., number of first axes] of int16, int32 or
    int64; output [any shape..., rest...]. A place outside is an error when the operation runs.

    # Ref: LiteRT 2.3, tflite/kernels/gather_nd.cc
    """

    mnemonic: ClassVar[str] = "gather_nd"
    tflite_name: ClassVar[str] = "GATHER_ND"

    input: Value
    positions: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        shape, places = self.input.shape, self.positions.shape
        if not places or not shape:
            lacking = self.input if places else self.positions
            raise ValueError(f"{rules.describe(lacking)}, must have 1 dimension or more")
        if places[-1] > len(shape):
            raise ValueError(f"{rules.describe(self.positions)}, must end in at most {len(shape)}")
        return (TensorType(self.input.type.dtype, (*places[:-1], *shape[places[-1] :])),)

    def check(self) -> list[str]:
        return [
            *rules.element_type(self.input, *_GATHERED),
            *rules.element_type(self.positions, DType.INT16, DType.INT32, DType.INT64),
        ]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, positions = rules.present(operands[0]), rules.present(operands[1])
        sizes = np.array(x.shape[: positions.shape[-1]])
        wrong = ((positions < 0) | (positions >= sizes)).any(axis=-1)
        if wrong.any():
            place = positions[wrong][0].tolist()
            raise rules.unsupported(self, f"position is {place}, must be within {sizes.tolist()}")
        taken = x[tuple(np.moveaxis(positions, -1, 0))]
        return (np.asarray(taken).reshape(self.output.shape),)
