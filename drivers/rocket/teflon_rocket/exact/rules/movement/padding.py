# Ref: docs/hardware/rocket_vendor.md §2 (pad, pad by reflection)
"""Maps that grow at their sides: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.ir.ops import MirrorPad, Pad
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copies, filled
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.scales import Affine, signed_offset
from teflon_rocket.exact.selection import NO_CHANNEL, selections
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.passes import Size

RULES = Family()

Growing = Pad | MirrorPad
Sides = tuple[int, int, int, int]


def _sides(op: Growing) -> tuple[Sides, Sides]:
    """Return what is added before and after each of the device's axes."""
    zeros = (0,) * (4 - op.input.type.rank)
    before, after = ((*zeros, *sides) for sides in (op.before, op.after))
    return before, after  # type: ignore[return-value]


@RULES.requires
def keeps_images(op: Growing, chip: Chip) -> str | None:
    """Images must not be padded."""
    before, after = _sides(op)
    return None if before[0] == after[0] == 0 else f"{before[0]} before, {after[0]} after"


@RULES.requires
def constant_filler(op: Pad, chip: Chip) -> str | None:
    """What is filled in must be constant."""
    value = op.value
    return None if value is None or value.is_constant else f"{value.name!r} is computed"


@RULES.requires
def mirrors_pixels(op: MirrorPad, chip: Chip) -> str | None:
    """Channels must not be mirrored."""
    before, after = _sides(op)
    return None if before[3] == after[3] == 0 else f"{before[3]} before, {after[3]} after"


@RULES.lowers
def pad(op: Pad, state: Lowering) -> Iterator[Operation]:
    """A copy into the middle and a pass for each side that is filled; a convolution before them
    where there are further channels.
    """
    (_, top, left, first), (_, bottom, right, last) = _sides(op)
    source, output = state.features[op.input], state.features[op.output]
    images, height, width, channels = source.shape
    data = None if op.value is None else op.value.data
    filler = op.output.type.zero_point if data is None else int(data.item())
    inside = source
    if first or last:
        shape = (images, height, width, first + channels + last)
        alone = not any((top, left, bottom, right))
        if not alone:
            inside = Feature.between(f"{op.where}/channels", shape, source.flip)
        inside = output if alone else inside
        chosen = np.full(shape[3], NO_CHANNEL)
        chosen[first : first + channels] = np.arange(channels)
        affine = Affine.of(op.input.type)
        steps = filler - op.input.type.zero_point
        layers = selections(op.where, source, inside, chosen, affine, affine, steps)
        for layer in layers:
            yield from convolutions(layer, state.chip, inside in state.added)
        if alone:
            return
    byte = filler + signed_offset(op.output.type) - 128
    yield from extended(op.where, inside, output, (top, left, bottom, right), byte)


def extended(
    name: str, source: Feature, target: Feature, sides: Sides, byte: int
) -> Iterator[Operation]:
    """Yield the passes that copy a map into the middle of another one and fill the sides.

    sides: rows above, columns left, rows below, columns right. byte: as it is stored.
    """
    top, left, _, _ = sides
    yield from copies(name, Box(source), Box(target, top, left), Size(*source.shape))
    for box, rows, columns in _strips(target, sides):
        yield filled(name, box, Size(source.shape[0], rows, columns, target.shape[3]), byte)


def _strips(output: Feature, sides: Sides) -> Iterator[tuple[Box, int, int]]:
    """Yield what lies outside the middle: rows above and below, columns at both sides."""
    top, left, bottom, right = sides
    _, height, width, _ = output.shape
    middle = height - top - bottom
    strips = (
        (Box(output), top, width),
        (Box(output, top=height - bottom), bottom, width),
        (Box(output, top=top), middle, left),
        (Box(output, top=top, left=width - right), middle, right),
    )
    yield from (strip for strip in strips if strip[1] and strip[2])


@RULES.lowers
def mirror(op: MirrorPad, state: Lowering) -> Iterator[Operation]:
    """A copy into the middle; then a pass for each row, and one for each column, out of the result
    itself.
    """
    (_, top, left, _), (_, bottom, right, _) = _sides(op)
    source, output = state.features[op.input], state.features[op.output]
    images, height, width, channels = image_shape(op.input.shape)
    yield from copies(op.where, Box(source), Box(output, top, left), Size(*source.shape))
    skipped = int(op.reflect)
    row = Size(images, 1, width, channels)
    for target, at in _mirrored(top, height, bottom, skipped):
        boxes = Box(output, top=at, left=left), Box(output, top=target, left=left)
        yield from copies(op.where, *boxes, row)
    column = Size(images, top + height + bottom, 1, channels)
    for target, at in _mirrored(left, width, right, skipped):
        yield from copies(op.where, Box(output, left=at), Box(output, left=target), column)


def _mirrored(before: int, size: int, after: int, skipped: int) -> Iterator[tuple[int, int]]:
    """Yield along one axis which line outside the middle is which line in it."""
    for distance in range(before):
        yield before - 1 - distance, before + skipped + distance
    last = before + size - 1
    for distance in range(after):
        yield last + 1 + distance, last - skipped - distance
