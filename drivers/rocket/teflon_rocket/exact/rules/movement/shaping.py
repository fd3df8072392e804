# Ref: docs/hardware/rocket_vendor.md §2 (transpose W<->H, copies)
"""The same elements in another shape or order: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.ops import Transpose
from teflon_common.boxes import Reshaping, Shape, same_pixels
from teflon_common.layout import LANES, image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copied_pixels, copies, seen, transposed
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.selection import (
    selections,
    spaced_lanes,
    spaced_map,
    spread_channels,
)
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.passes import Size

RULES = Family()

_EXCHANGED = (0, 2, 1, 3)


def _regroups(one: Shape, other: Shape) -> bool:
    """Whether pixels become channels of one pixel, or the other way round."""
    few, many = sorted((one[3], other[3]))
    return one[0] == other[0] and 0 < few < many and many % few == 0


def _stacks(one: Shape, other: Shape) -> bool:
    """Whether images become pixels of one image, or the other way round."""
    return one[3] == other[3] and 1 in (one[0], other[0])


@RULES.requires
def whole_pixels(op: Reshaping, chip: Chip) -> str | None:
    """A reshape must keep the last axis, or the images and a multiple or a divisor of it (one
    before a FULLY_CONNECTED is part of that).
    """
    one, other = image_shape(op.input.shape), image_shape(op.output.shape)
    if same_pixels(one, other) or _regroups(one, other) or _stacks(one, other):
        return None
    return f"{list(op.input.shape)} becomes {list(op.output.shape)}"


@RULES.lowers
def reshape(op: Reshaping, state: Lowering) -> Iterator[Operation]:
    """Nothing where the bytes lie there already, else copies; where channels are cut or joined that
    are no multiple of 16, a convolution that chooses lanes as well.
    """
    yield from _reshaped(op, state)


def _reshaped(op: Reshaping | Transpose, state: Lowering) -> Iterator[Operation]:
    source, output = state.features[op.input], state.features[op.output]
    if same_pixels(source.shape, output.shape):
        yield from copied_pixels(op.where, source, output)
    elif source.shape[3] == output.shape[3]:
        yield from _stacked(op.where, source, output)
    elif source.shape[3] < output.shape[3]:
        yield from _joined(op, source, output, state)
    else:
        yield from _cut(op, source, output, state)


def _stacked(name: str, source: Feature, output: Feature) -> Iterator[Operation]:
    """Yield the passes between several images and one with all their pixels."""
    apart, together = sorted((source, output), key=lambda f: f.shape[0], reverse=True)
    images, height, width, channels = apart.shape
    line = seen(together, (1, images * height, width, channels), together.surface_pixels)
    for image in range(images):
        boxes = Box(apart, image=image), Box(line, top=image * height)
        first, second = boxes if apart is source else reversed(boxes)
        yield from copies(name, first, second, Size(1, height, width, channels))


def _joined(
    op: Reshaping | Transpose, source: Feature, output: Feature, state: Lowering
) -> Iterator[Operation]:
    """Yield what makes several pixels one with all their channels."""
    channels = source.shape[3]
    times = output.shape[3] // channels
    spaced = spaced_map(op.where, output, channels, times)
    yield from _regrouped(op.where, source, spaced, times, gather=True)
    if spaced is not output:
        affine, chosen = Affine.of(op.input.type), spaced_lanes(channels, times)
        layers = selections(op.where, spaced, output, chosen, affine, affine)
        for layer in layers:
            yield from convolutions(layer, state.chip, output in state.added)


def _cut(
    op: Reshaping | Transpose, source: Feature, output: Feature, state: Lowering
) -> Iterator[Operation]:
    """Yield what makes several pixels of the channels of one."""
    channels = output.shape[3]
    times = source.shape[3] // channels
    spaced = spaced_map(op.where, source, channels, times)
    if spaced is not source:
        affine, chosen = Affine.of(op.input.type), spread_channels(channels, times)
        layers = selections(op.where, source, spaced, chosen, affine, affine)
        for layer in layers:
            yield from convolutions(layer, state.chip, False)
    yield from _regrouped(op.where, output, spaced, times, gather=False)


def _regrouped(
    name: str, many: Feature, few: Feature, times: int, gather: bool
) -> Iterator[Operation]:
    """Yield the passes between a map of many pixels and one of fewer with more surfaces."""
    images, height, width, channels = many.shape
    pixels, surfaces = height * width // times, many.surfaces
    for number in range(min(pixels, times)):
        if pixels < times:  # all blocks of one pixel: they follow each other in surfaces
            size, step = Size(images, times, 1, channels), surfaces * few.surface_pixels
            one = Box(seen(many, (images, pixels, times, channels), many.surface_pixels), number)
            one = Box(seen(many, (images, times, 1, channels), many.surface_pixels, one.start))
            start = number * LANES
            other = Box(seen(few, (images, times, step, channels), few.surface_pixels, start))
        else:
            size = Size(images, pixels, 1, channels)
            blocks = seen(many, (images, pixels, times, channels), many.surface_pixels)
            line = seen(few, (images, pixels, 1, few.shape[3]), few.surface_pixels)
            one, other = Box(blocks, left=number), Box(line, surface=number * surfaces)
        source, target = (one, other) if gather else (other, one)
        yield from copies(name, source, target, size)


def _moved_axes(op: Transpose) -> tuple[Shape, tuple[int, ...]]:
    """Return the input's shape with four axes, and the order of those that are longer than 1."""
    missing = 4 - op.input.type.rank
    perm = (*range(missing), *(axis + missing for axis in op.perm))
    shape = image_shape(op.input.shape)
    return shape, tuple(axis for axis in perm if shape[axis] > 1)


@RULES.requires
def exchanges(op: Transpose, chip: Chip) -> str | None:
    """A transposition must leave the channels last, and exchange height and width or only axes of
    size 1.
    """
    shape, order = _moved_axes(op)
    found = image_shape(op.output.shape)
    in_order = tuple(sorted(order)) == order
    if in_order and (same_pixels(shape, found) or _regroups(shape, found)):
        return None
    exchanged = (shape[0], shape[2], shape[1], shape[3])
    if found == exchanged and order == tuple(a for a in _EXCHANGED if shape[a] > 1):
        return None
    return f"perm is {list(op.perm)}"


@RULES.lowers
def transpose(op: Transpose, state: Lowering) -> Iterator[Operation]:
    """A pass for each surface; none where only axes of size 1 move."""
    source, output = state.features[op.input], state.features[op.output]
    _, order = _moved_axes(op)
    if tuple(sorted(order)) != order:
        yield from transposed(op.where, source, output)
    else:
        yield from _reshaped(op, state)
