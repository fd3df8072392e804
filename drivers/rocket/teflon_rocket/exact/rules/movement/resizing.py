# Ref: docs/hardware/rocket_vendor.md §0.11, §2 (resize nearest, resize bilinear)
"""Resizing maps: limits and lowering."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from teflon.ir.ops import ResizeBilinear, ResizeNearestNeighbor
from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_common.phases import Phase, Resizing, bilinear, nearest, uncounted
from teflon_rocket.chips import Chip
from teflon_rocket.exact.copies import Box, copied_pixels, copies, seen
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.layers import Layer
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.convolution import Coefs, Geometry
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.dpu import PIXEL_CHANNELS
from teflon_rocket.operations.passes import MOST_REPEATS, Pass, Size
from teflon_rocket.operations.stages import Kind, Other, Source, Stage

RULES = Family()

_MOST_LINES = 128
"""Passes along an axis: more would cost more than the copies to the CPU and back."""
_LARGEST_WEIGHT = 127
_TOGETHER = 4
"""Phases along both axes up to which one convolution does both."""
_MOST_COUNTED = 1 << 13  # CHANNEL_WDMA


@RULES.requires
def few_lines(op: ResizeNearestNeighbor, chip: Chip) -> str | None:
    """The sizes of a RESIZE_NEAREST_NEIGHBOR must have a ratio of small numbers: at most 128
    different distances between rows and columns of input and output.
    """
    phases = max(map(len, nearest(op)))
    return None if phases <= _MOST_LINES else f"{phases} distances"


@RULES.requires
def even_ratio(op: ResizeBilinear, chip: Chip) -> str | None:
    """The sizes of a RESIZE_BILINEAR must have a ratio of small numbers: shares of pixels in whole
    1/127, inputs of one phase at most {max_stride} apart and the first ones among the first
    {max_kernel} rows and columns, at most 128 phases.
    """
    if _is_spread(op):
        return None
    for phases in bilinear(op):
        shares = lcm(*(phase.share.denominator for phase in phases))
        if shares > _LARGEST_WEIGHT:
            return f"shares of 1/{shares}"
        apart = max(phase.stride for phase in phases)
        if apart > chip.max_stride:
            return f"{apart} apart"
        first = min(0, *(phase.source for phase in phases))
        taps = max(phase.source + phase.taps - first for phase in phases)
        if taps > chip.max_kernel:
            return f"a phase begins with the first {taps}"
        if len(phases) > _MOST_LINES:
            return f"{len(phases)} phases"
    return None


@RULES.requires
def positions(op: ResizeBilinear, chip: Chip) -> str | None:
    """The ratio of sizes of a RESIZE_BILINEAR of int8 must be one that TFLite's kernel counts
    exactly, in 1/1024.
    """
    return None if _is_spread(op) else uncounted(op)


def _is_spread(op: Resizing) -> bool:
    """Whether all pixels of the result are the one that there is."""
    return op.input.shape[1:3] == (1, 1)


@RULES.lowers
def resize(op: Resizing, state: Lowering) -> Iterator[Operation]:
    """Passes that repeat or move pixels, and depthwise convolutions where they are mixed."""
    source, output = state.features[op.input], state.features[op.output]
    if source.shape == output.shape:
        yield from copied_pixels(op.where, source, output)
    elif _is_spread(op):
        yield _spread(op.where, source, output)
    elif isinstance(op, ResizeNearestNeighbor):
        yield from _nearest(op.where, source, output, *nearest(op))
    else:
        yield from _bilinear(op, source, output, state)


def _spread(name: str, source: Feature, output: Feature) -> Pass:
    """Return the pass that writes one pixel everywhere: what it reads times 0, plus the pixel."""
    everywhere, pixel = Source(output), Source(source, spread=True)
    return Pass(
        name, everywhere, everywhere, Size(*output.shape), bs=Stage(factor=0),
        other=Other(Kind.ADD, pixel, 0, 1, 0),
    )  # fmt: skip


# Nearest -----------------------------------------------------------------------------------------


def _nearest(
    name: str, source: Feature, output: Feature, rows: Sequence[Phase], columns: Sequence[Phase]
) -> Iterator[Operation]:
    times = len(rows)
    if _repeats(rows) and _repeats(columns) and times == len(columns) <= MOST_REPEATS:
        yield Pass(name, Source(source), Source(output), Size(*source.shape), repeat=times)
        return
    images, _, width, channels = source.shape
    between = source
    if len(rows) > 1 or rows[0].stride > 1:
        between = output
        if len(columns) > 1 or columns[0].stride > 1:
            between = Feature.between(
                f"{name}/rows", (images, output.shape[1], width, channels), source.flip
            )
        for row in rows:
            target = Box(between, top=row.first, rows=row.step)
            size = Size(images, row.lines, width, channels)
            yield from copies(name, Box(source, top=row.source, rows=row.stride), target, size)
    if between is not output:
        for column in columns:
            size = Size(images, output.shape[1], column.lines, channels)
            begin = Box(between, left=column.source, columns=column.stride)
            target = Box(output, left=column.first, columns=column.step)
            yield from copies(name, begin, target, size)


def _repeats(phases: Sequence[Phase]) -> bool:
    """Whether each input stands so many times in a row as there are phases."""
    return all(phase.source == 0 and phase.stride == 1 for phase in phases)


# Bilinear ----------------------------------------------------------------------------------------


def _bilinear(
    op: ResizeBilinear, source: Feature, output: Feature, state: Lowering
) -> Iterator[Operation]:
    """Yield what computes each phase as a convolution and puts its pixels among the others.

    Rows first, then columns, where there are many phases; results are rounded twice then.
    """
    rows, columns = bilinear(op)
    affine = Affine.of(op.input.type)
    images, _, width, channels = source.shape
    if max(len(rows), len(columns)) <= _TOGETHER:
        yield from _mixed(op.where, source, output, (rows, columns), affine, state)
        return
    alone = [Phase(0, 1, width, 0, 1)]
    between = Feature.between(
        f"{op.where}/rows", (images, output.shape[1], width, channels), source.flip
    )
    yield from _mixed(op.where, source, between, (rows, alone), affine, state)
    alone = [Phase(0, 1, output.shape[1], 0, 1)]
    yield from _mixed(op.where, between, output, (alone, columns), affine, state)


def _mixed(
    name: str, source: Feature, output: Feature, phases: tuple[list[Phase], list[Phase]],
    affine: Affine, state: Lowering,
) -> Iterator[Operation]:  # fmt: skip
    before = [max(0, *(-phase.source for phase in some)) for some in phases]
    sizes = source.shape[1:3]
    after = [
        max(0, *(phase.last - size + 1 for phase in some))
        for some, size in zip(phases, sizes, strict=True)
    ]
    if any(before) or any(after):
        images, height, width, channels = source.shape
        shape = images, before[0] + height + after[0], before[1] + width + after[1], channels
        extended = Feature.between(f"{name}/extended", shape, source.flip)
        yield from _extended(name, source, extended, (before[0], before[1]))
        source = extended
    for row in phases[0]:
        for column in phases[1]:
            moved = (
                row._replace(source=row.source + before[0]),
                column._replace(source=column.source + before[1]),
            )
            yield from _phase(name, source, output, moved, affine, state)


def _extended(
    name: str, source: Feature, target: Feature, before: tuple[int, int]
) -> Iterator[Operation]:
    """Yield copies into the middle of a larger map, and of its edges outwards."""
    images, height, width, channels = source.shape
    top, left = before
    yield from copies(name, Box(source), Box(target, *before), Size(*source.shape))
    _, rows, columns, _ = target.shape
    size = Size(images, 1, width, channels)
    for line in (*range(top), *range(top + height, rows)):
        edge = top if line < top else top + height - 1
        boxes = Box(target, top=edge, left=left), Box(target, top=line, left=left)
        yield from copies(name, *boxes, size)
    size = Size(images, rows, 1, channels)
    for line in (*range(left), *range(left + width, columns)):
        edge = left if line < left else left + width - 1
        yield from copies(name, Box(target, left=edge), Box(target, left=line), size)


def _phase(
    name: str, source: Feature, output: Feature, phases: tuple[Phase, Phase], affine: Affine,
    state: Lowering,
) -> Iterator[Operation]:  # fmt: skip
    """Yield the operations of one phase: a convolution unless whole rows are copied. Where it
    cannot put its pixels among the others, copies do.
    """
    row, column = phases
    images, _, _, channels = source.shape
    size = Size(images, row.lines, column.lines, channels)
    target = Box(output, row.first, column.first, rows=row.step, columns=column.step)
    alone = (row.step, column.step) == (1, 1)
    if not row.share and not column.share and column.step == column.stride == 1:
        begin = Box(source, row.source, column.source, rows=row.stride, columns=column.stride)
        yield from copies(name, begin, target, size)
        return
    mixed = output
    if not alone:
        mixed = Feature.between(
            f"{name}/phase", (images, row.lines, column.lines, channels), source.flip
        )
    apart = column.step if column.lines > 1 else 2  # of one pixel: so that it is not a whole row
    singly = not alone and column.lines * PIXEL_CHANNELS <= _MOST_COUNTED
    for first in range(0, channels, PIXEL_CHANNELS if singly else channels):
        some = min(channels - first, PIXEL_CHANNELS) if singly else channels
        layer = _layer(name, *_surfaces(source, mixed, first, some), row, column, affine)
        for operation in convolutions(layer, state.chip, False):
            if singly:
                begin = target._replace(surface=first // LANES)
                shape = (images, row.lines, begin.row_pixels, some)
                place = seen(output, shape, output.surface_pixels, begin.start)
                operation = dataclasses.replace(operation, output=place, apart=apart)
            yield operation
    if not alone and not singly:
        yield from copies(name, Box(mixed), target, size)


def _surfaces(source: Feature, mixed: Feature, first: int, some: int) -> tuple[Feature, Feature]:
    """Return some channels of both maps, from a surface on."""
    if some == source.shape[3]:
        return source, mixed
    one, other = (
        seen(f, (*f.shape[:3], some), f.surface_pixels, first // LANES * f.surface_bytes)
        for f in (source, mixed)
    )
    return one, other


def _layer(
    name: str, source: Feature, output: Feature, row: Phase, column: Phase, affine: Affine
) -> Layer:
    """Return the depthwise convolution that mixes up to four pixels.

    Its kernel begins with the map, so that taps before the first input are zero.
    """
    images, height, width, channels = source.shape
    vertical, horizontal = _shares(row), _shares(column)
    taps = np.outer(vertical, horizontal)
    times = max(_LARGEST_WEIGHT // int(taps.max()), 1)
    weights = np.repeat((taps * times + 128).reshape(1, -1, 1), channels, 2).astype(np.uint8)
    geometry = Geometry(
        width, height, channels, column.lines, row.lines, channels,
        kernel=(len(horizontal), len(vertical)), stride=(column.stride, row.stride),
        depthwise=True, images=images,
    )  # fmt: skip
    coefs = Coefs(weights, 128, np.zeros(channels, np.int64), affine.zero, True)
    unit = affine.scale / (times * int(taps.sum()))
    return Layer(name, source, output, geometry, coefs, unit, affine, (0, 255))


def _shares(phase: Phase) -> Array:
    """Return the weights of the taps along one axis in whole numbers."""
    whole = phase.share.denominator
    found = [Fraction(0)] * phase.source + [1 - phase.share, phase.share][: phase.taps]
    numbers = [int(share * whole) for share in found]
    common = gcd(*numbers)
    return np.array(numbers) // common
