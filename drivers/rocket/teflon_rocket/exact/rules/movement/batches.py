# Ref: docs/hardware/rocket_vendor.md §2 (copies, pad)
"""Places of blocks that become images, and the other way round: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.ops import BatchToSpace, SpaceToBatch
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copies
from teflon_rocket.exact.rules.movement.padding import extended
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.passes import Size

RULES = Family()

Batched = SpaceToBatch | BatchToSpace


@RULES.requires_first
def height_and_width(op: Batched, chip: Chip) -> str | None:
    """Blocks must be of height and width: what is cut in blocks must have 4 axes."""
    rank = op.input.type.rank
    return None if rank == 4 else f"{rank} axes"


@RULES.lowers
def to_batch(op: SpaceToBatch, state: Lowering) -> Iterator[Operation]:
    """A copy for each image; passes before them where the map grows."""
    source, output = state.features[op.input], state.features[op.output]
    (top, left), (bottom, right) = op.before, op.after
    images, height, width, channels = source.shape
    if any((top, left, bottom, right)):
        shape = images, top + height + bottom, left + width + right, channels
        grown = Feature.between(f"{op.where}/grown", shape, source.flip)
        byte = Affine.of(op.output.type).zero - 128
        yield from extended(op.where, source, grown, (top, left, bottom, right), byte)
        source = grown
    rows, columns = op.block
    for image in range(output.shape[0]):
        place, number = divmod(image, images)
        row, column = divmod(place, columns)
        begin = Box(source, row, column, image=number, rows=rows, columns=columns)
        yield from copies(op.where, begin, Box(output, image=image), Size(1, *output.shape[1:]))


@RULES.lowers
def to_images(op: BatchToSpace, state: Lowering) -> Iterator[Operation]:
    """A copy for each image."""
    source, output = state.features[op.input], state.features[op.output]
    images, height, width, channels = output.shape
    for image in range(source.shape[0]):
        place, number = divmod(image, images)
        row, column = divmod(place, op.block[1])
        top, first_row, rows = _kept(row, op.block[0], op.before[0], height)
        left, first_column, columns = _kept(column, op.block[1], op.before[1], width)
        if not rows or not columns:
            continue
        begin = Box(source, top, left, image=image)
        target = Box(
            output, first_row, first_column, image=number, rows=op.block[0], columns=op.block[1]
        )
        yield from copies(op.where, begin, target, Size(1, rows, columns, channels))


def _kept(place: int, block: int, before: int, size: int) -> tuple[int, int, int]:
    """Return along one axis the first line of an image that stays, its place, how many stay."""
    first = max(-((place - before) // block), 0)
    target = first * block + place - before
    return first, target, max(-((target - size) // block), 0)
