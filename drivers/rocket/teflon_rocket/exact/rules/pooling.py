# Ref: docs/hardware/rocket_vendor.md §2 (pooling), §4 (why not on the PPU)
"""Pooling and means over rows and columns: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.ops import AveragePool2D, MaxPool2D, Mean
from teflon.ir.types import DType
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact import ppu
from teflon_rocket.exact.layers import clamp_of
from teflon_rocket.exact.means import Ties, mean, mean_inside
from teflon_rocket.exact.pooling import ALL, Pool, largest
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation

RULES = Family()

Pooling = AveragePool2D | MaxPool2D


@RULES.requires
def over_the_map(op: Mean, chip: Chip) -> str | None:
    """A mean must be over rows, columns or both, and leave the images apart."""
    images = image_shape(op.input.shape)
    reduced = tuple(axis + 4 - len(op.input.shape) for axis in op.axes)
    kept = tuple(1 if axis in reduced else size for axis, size in enumerate(images))
    if set(reduced) <= {1, 2} and len(op.input.shape) <= 4 and image_shape(op.output.shape) == kept:
        return None
    return f"axes are {list(op.axes)} of {list(op.input.shape)}"


@RULES.lowers
def pooled(op: Pooling, state: Lowering) -> Iterator[Operation]:
    """Shifts and comparisons for the largest, one convolution with equal weights for a mean; the
    PPU where it may be used.
    """
    source, output = state.features[op.input], state.features[op.output]
    pool = Pool(op.kernel, _useful(op), (op.padding.top, op.padding.left))
    average = isinstance(op, AveragePool2D)
    plain = clamp_of(op) == ALL and (not average or _inside(op))
    if plain and ppu.takes(source, output, pool, average, state.chip):
        zero = Affine.of(op.input.type).zero - 128
        yield from ppu.pooled(op.where, source, output, pool, average, zero, state.chip)
        return
    if isinstance(op, MaxPool2D):
        yield from largest(op.where, source, output, pool, clamp_of(op), state.chip)
        return
    if _inside(op):
        same = Affine(op.input.type.scale, 128)  # TFLite takes the mean of the stored numbers
        ties = Ties.UP if op.input.type.dtype is DType.UINT8 else Ties.AWAY
        yield from mean(
            op.where, source, output, pool, (same, same), clamp_of(op), state.chip, ties
        )
    else:
        yield from mean_inside(op.where, source, output, pool, clamp_of(op), state.chip)


@RULES.lowers
def over_axes(op: Mean, state: Lowering) -> Iterator[Operation]:
    """One convolution with equal weights, or two where the kernel is too large."""
    source, output = state.features[op.input], state.features[op.output]
    missing = 4 - len(op.input.shape)
    high, wide = (source.shape[axis] if axis - missing in op.axes else 1 for axis in (1, 2))
    pool = Pool((high, wide), (1, 1), (0, 0))
    scales = Affine.of(op.input.type), Affine.of(op.output.type)
    yield from mean(op.where, source, output, pool, scales, ALL, state.chip)


def _useful(op: Pooling) -> tuple[int, int]:
    """Return the strides, 1 where there is only one window."""
    down, right = (
        stride if out > 1 else 1
        for stride, out in zip(op.stride, op.output.shape[1:3], strict=True)
    )
    return down, right


def _inside(op: Pooling) -> bool:
    """Whether all windows lie within the map."""
    ends = (
        (out - 1) * stride + kernel
        for out, stride, kernel in zip(op.output.shape[1:3], op.stride, op.kernel, strict=True)
    )
    fitting = all(end <= size for end, size in zip(ends, op.input.shape[1:3], strict=True))
    return fitting and not (op.padding.top or op.padding.left)
