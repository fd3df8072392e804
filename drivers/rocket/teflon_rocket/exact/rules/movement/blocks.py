# Ref: docs/hardware/rocket_vendor.md §2 (copies, channels that are no multiple of 16), §3 (kd2scrd)
"""Blocks of pixels that become channels, and the other way round: limits and lowering."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.ops import DepthToSpace, SpaceToDepth
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copies
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
from teflon_rocket.operations.passes import Size

RULES = Family()

Blocked = SpaceToDepth | DepthToSpace


@RULES.requires
def few_places(op: Blocked, chip: Chip) -> str | None:
    """Blocks must have at most {max_stride} rows and columns."""
    return None if op.block <= chip.max_stride else f"blocks are {op.block}x{op.block}"


@RULES.lowers
def to_depth(op: SpaceToDepth, state: Lowering) -> Iterator[Operation]:
    """Copies of each place of the blocks, in whole surfaces; a convolution then removes the lanes
    between them where channels are no multiple of 16.
    """
    source, output = state.features[op.input], state.features[op.output]
    images, height, width, _ = output.shape
    channels, places = source.shape[3], _places(op.block)
    gathered = spaced_map(op.where, output, channels, len(places))
    surfaces = source.surfaces
    for number, (row, column) in enumerate(places):
        begin = Box(source, row, column, rows=op.block, columns=op.block)
        target = Box(gathered, surface=number * surfaces)
        yield from copies(op.where, begin, target, Size(images, height, width, channels))
    if gathered is not output:
        affine, chosen = Affine.of(op.input.type), spaced_lanes(channels, len(places))
        layers = selections(op.where, gathered, output, chosen, affine, affine)
        for layer in layers:
            yield from convolutions(layer, state.chip, output in state.added)


@RULES.lowers
def to_space(op: DepthToSpace, state: Lowering) -> Iterator[Operation]:
    """Copies to each place of the blocks; where channels are no multiple of 16, a convolution
    before them gives each place whole surfaces.
    """
    source, output = state.features[op.input], state.features[op.output]
    images, height, width, _ = source.shape
    channels, places = output.shape[3], _places(op.block)
    spaced = spaced_map(op.where, source, channels, len(places))
    if spaced is not source:
        affine, chosen = Affine.of(op.input.type), spread_channels(channels, len(places))
        layers = selections(op.where, source, spaced, chosen, affine, affine)
        for layer in layers:
            yield from convolutions(layer, state.chip, False)
    surfaces = output.surfaces
    for number, (row, column) in enumerate(places):
        begin = Box(spaced, surface=number * surfaces)
        target = Box(output, row, column, rows=op.block, columns=op.block)
        yield from copies(op.where, begin, target, Size(images, height, width, channels))


def _places(block: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(block) for column in range(block)]
