# Ref: docs/hardware/rocket_vendor.md §2 (pooling), §4 (why not on the PPU)
"""Pooling and means over rows and columns: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.ops import AveragePool2D, MaxPool2D, Mean
from teflon.ir.types import DType
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact import ppu
from teflon_rocket.exact.boxes import Shape, axis_of, same_pixels
from teflon_rocket.exact.copies import seen
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
    rank = op.input.type.rank
    inside = all(axis_of(axis, rank) in (1, 2) for axis in op.axes)
    if rank <= 4 and inside and same_pixels(_means(op), image_shape(op.output.shape)):
        return None
    shapes = f"{list(op.input.shape)}, which becomes {list(op.output.shape)}"
    return f"axes are {list(op.axes)} of {shapes}"


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
    if output.shape != _means(op):  # without the axes: the same pixels in another shape
        output = seen(output, _means(op), output.surface_pixels)
    _, high, wide, _ = (size // kept for size, kept in zip(source.shape, output.shape, strict=True))
    pool = Pool((high, wide), (1, 1), (0, 0))
    scales = Affine.of(op.input.type), Affine.of(op.output.type)
    yield from mean(op.where, source, output, pool, scales, ALL, state.chip)


def _means(op: Mean) -> Shape:
    """Return the shape of the means, with the axes that they are over."""
    images, height, width, channels = image_shape(op.input.shape)
    over = [axis_of(axis, op.input.type.rank) for axis in op.axes]
    return images, 1 if 1 in over else height, 1 if 2 in over else width, channels


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
