"""Move blocks of pixels between height and width and another axis.

# Ref: LiteRT 2.3, tflite/kernels/space_to_depth.cc, depth_to_space.cc, space_to_batch_nd.cc,
# batch_to_space_nd.cc
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.types import Array, DType, TensorType

_MOVED = (DType.FLOAT32, DType.UINT8, DType.INT8, DType.INT32, DType.INT64)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Depth(Op):
    """What both have in common: an image NHWC and the side of a block."""

    input: Value
    output: Value
    block: int

    def check(self) -> list[str]:
        return [
            *rules.element_type(self.input, *_MOVED),
            *rules.same_quantisation(self.input, self.output),
        ]


class SpaceToDepth(_Depth):
    """Make the pixels of each block channels of one pixel, row by row; NHWC."""

    mnemonic: ClassVar[str] = "space_to_depth"
    tflite_name: ClassVar[str] = "SPACE_TO_DEPTH"

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.input, 4)
        batch, height, width, depth = self.input.shape
        size = self.block
        if size < 1 or height % size or width % size:
            raise ValueError(
                f"block is {size}, must be 1 or more and divide height {height} and width {width}"
            )
        shape = (batch, height // size, width // size, depth * size * size)
        return (TensorType(self.input.type.dtype, shape),)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        batch, height, width, _ = self.output.shape
        cut = rules.present(operands[0]).reshape(batch, height, self.block, width, self.block, -1)
        return (cut.transpose(0, 1, 3, 2, 4, 5).reshape(self.output.shape),)


class DepthToSpace(_Depth):
    """Make the channels of each pixel a block of pixels, row by row; NHWC."""

    mnemonic: ClassVar[str] = "depth_to_space"
    tflite_name: ClassVar[str] = "DEPTH_TO_SPACE"

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.input, 4)
        batch, height, width, depth = self.input.shape
        size = self.block
        if size < 1 or depth % (size * size):
            raise ValueError(
                f"block is {size}, must be 1 or more and its square divide {depth} channels"
            )
        shape = (batch, height * size, width * size, depth // (size * size))
        return (TensorType(self.input.type.dtype, shape),)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        batch, height, width, _ = self.input.shape
        cut = rules.present(operands[0]).reshape(batch, height, width, self.block, self.block, -1)
        return (cut.transpose(0, 1, 3, 2, 4, 5).reshape(self.output.shape),)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Batch(Op):
    """What both have in common: a block of one size for each axis behind the batch.

    input [batch, axes of the block..., rest...]; 3 or 4 dimensions, a rest of one, as TFLite has.
    """

    input: Value
    output: Value
    block: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    def check(self) -> list[str]:
        return [
            *rules.element_type(self.input, *_MOVED, DType.INT16),
            *rules.same_quantisation(self.input, self.output),
            *rules.at_least("before", self.before, 0),
            *rules.at_least("after", self.after, 0),
        ]

    def _need_sizes(self) -> None:
        """Raise ValueError unless there is a size of the block for each axis of the image."""
        rank = self.input.type.rank
        if rank not in (3, 4):
            raise ValueError(f"{rules.describe(self.input)}, must have 3 or 4 dimensions")
        for name in ("block", "before", "after"):
            sizes = getattr(self, name)
            if len(sizes) != rank - 2:
                raise ValueError(f"{name} is {list(sizes)}, must have {rank - 2} sizes")
        if min(self.block) < 1:
            raise ValueError(f"block is {list(self.block)}, must be 1 or more")


class SpaceToBatch(_Batch):
    """Grow height and width by the zero point, then make each place of a block an image."""

    mnemonic: ClassVar[str] = "space_to_batch"
    tflite_name: ClassVar[str] = "SPACE_TO_BATCH_ND"

    def infer(self) -> tuple[TensorType, ...]:
        self._need_sizes()
        batch, *image, depth = self.input.shape
        grown = _sums(self.before, image, self.after)
        if any(size % side for size, side in zip(grown, self.block, strict=True)):
            raise ValueError(
                f"block is {list(self.block)}, must divide the padded size {list(grown)}"
            )
        sizes = [size // side for size, side in zip(grown, self.block, strict=True)]
        shape = (batch * math.prod(self.block), *sizes, depth)
        return (TensorType(self.input.type.dtype, shape),)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        sides = [(0, 0), *zip(self.before, self.after, strict=True), (0, 0)]
        filler = self.output.type.zero_point
        x = np.pad(rules.present(operands[0]), sides, constant_values=filler)
        cut: list[int] = []
        for size, side in zip(self.output.shape[1:-1], self.block, strict=True):
            cut += [size, side]
        axes = range(1, 1 + len(cut))
        order = (*axes[1::2], 0, *axes[0::2], 1 + len(cut))
        moved = x.reshape(x.shape[0], *cut, x.shape[-1]).transpose(order)
        return (np.ascontiguousarray(moved).reshape(self.output.shape),)


class BatchToSpace(_Batch):
    """Put images together, each at its place of a block, then cut `before` and `after` away."""

    mnemonic: ClassVar[str] = "batch_to_space"
    tflite_name: ClassVar[str] = "BATCH_TO_SPACE_ND"

    def infer(self) -> tuple[TensorType, ...]:
        self._need_sizes()
        batch, *image, depth = self.input.shape
        places = math.prod(self.block)
        if batch % places:
            raise ValueError(f"{rules.describe(self.input)}, must have a multiple of {places}")
        whole = [size * side for size, side in zip(image, self.block, strict=True)]
        kept = _sums([-n for n in self.before], whole, [-n for n in self.after])
        if min(kept) < 1:
            raise ValueError(
                f"before {list(self.before)} and after {list(self.after)} must leave something of"
                f" {whole}"
            )
        return (TensorType(self.input.type.dtype, (batch // places, *kept, depth)),)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, count = rules.present(operands[0]), len(self.block)
        batch, *image, depth = self.input.shape
        cut = x.reshape(*self.block, batch // math.prod(self.block), *image, depth)
        order = [count]
        for axis in range(count):
            order += [count + 1 + axis, axis]
        whole = [size * side for size, side in zip(image, self.block, strict=True)]
        joined = cut.transpose(*order, 2 * count + 1).reshape(-1, *whole, depth)
        kept = [
            slice(first, size - last)
            for first, size, last in zip(self.before, whole, self.after, strict=True)
        ]
        return (np.ascontiguousarray(joined[(slice(None), *kept)]),)


def _sums(*sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*sizes, strict=True)))
