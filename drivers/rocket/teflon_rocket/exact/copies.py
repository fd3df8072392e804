# Ref: docs/hardware/rocket_vendor.md §0.11, §2 (copies, address rules, transpose W<->H)
"""Copies of pixels from one feature map to another, as passes of the DPU.

A pass walks over columns, rows and surfaces with a distance of its own for each. So pixels at even
distances are copied by seeing a map in another shape: where columns are apart, they are taken for
rows of one pixel, and rows for surfaces; that takes a pass for each surface.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from teflon_common.layout import LANES
from teflon_rocket.exact.rescale import Rescaling, rescaling
from teflon_rocket.exact.scales import Affine
from teflon_rocket.operations.data import WHOLE_PIXELS, Feature
from teflon_rocket.operations.passes import UNCHANGED, Pass, Size
from teflon_rocket.operations.stages import OFF, Source, Stage

_MOST_NOTCH = (1 << 13) - 1  # NOTCH_ADDR_0, LINE_NOTCH_ADDR
_MOST_ROWS = 2046  # and columns, as of convolutions
_MOST_SURFACES = 511  # CHANNEL has 13 bits and must stay below its maximum

Shape = tuple[int, int, int, int]


class Box(NamedTuple):
    """Pixels of a feature map: where they begin, and the distances of their rows and columns."""

    feature: Feature
    top: int = 0
    left: int = 0
    surface: int = 0
    image: int = 0
    rows: int = 1
    columns: int = 1

    @property
    def start(self) -> int:
        """Bytes from the beginning of the first image to the first pixel."""
        feature = self.feature
        pixels = self.top * feature.shape[2] + self.left
        surfaces = self.surface * feature.surface_bytes
        return self.image * feature.image_bytes + surfaces + pixels * LANES

    @property
    def row_pixels(self) -> int:
        """Pixels from one row to the next."""
        return self.rows * self.feature.shape[2]


def seen(feature: Feature, shape: Shape, pitch: int, start: int = 0) -> Feature:
    """Return a map's pixels, from a byte on, in another shape; pitch: pixels between surfaces."""
    return dataclasses.replace(
        feature, name=f"{feature.name}/seen", shape=shape, value=None, pitch=pitch,
        whole=feature.root, start=feature.start + start,
    )  # fmt: skip


def copies(
    name: str, source: Box, target: Box, size: Size, scales: tuple[Affine, Affine] | None = None
) -> Iterator[Pass]:
    """Yield the passes that copy a part of a map.

    scales: the scale that bytes have, and the one that they get on the way. Raises LimitExceeded
    where the ratio is out of reach.
    """
    stages = rescaling(name, *scales) if scales else Rescaling(OFF, OFF, UNCHANGED)
    apart = max(source.columns, target.columns) > 1
    for top, left, part in _chunks(size):
        read, written = (
            box._replace(top=box.top + top * box.rows, left=box.left + left * box.columns)
            for box in (source, target)
        )
        far = max(source.row_pixels, target.row_pixels) - part.width > _MOST_NOTCH
        if not (apart and part.width > 1) and not (far and part.height > 1):
            yield _pass(name, read, written, part, stages)
            continue
        if not (_rows_outside(read, part) or _columns_outside(read, part)):
            aligned = _aligned(name, read, part)
            yield from copies(name, read._replace(columns=1), Box(aligned), _span(read, part))
            read = Box(aligned, columns=read.columns)
        yield from _by_surface(name, read, written, part, stages)


def _chunks(size: Size) -> Iterator[tuple[int, int, Size]]:
    """Yield first row, first column and size of what one pass can copy."""
    for top in range(0, size.height, _MOST_ROWS):
        for left in range(0, size.width, _MOST_ROWS):
            height, width = min(_MOST_ROWS, size.height - top), min(_MOST_ROWS, size.width - left)
            yield top, left, size._replace(height=height, width=width)


def _pass(name: str, source: Box, target: Box, size: Size, stages: Rescaling) -> Pass:
    begin = _begin(source, size), _begin(target, size)
    return Pass(name, *begin, size, stages.bs, stages.bn, output=stages.output)


def _begin(box: Box, size: Size) -> Source:
    """Return the place of a box whose columns follow each other."""
    feature, row = box.feature, box.row_pixels
    single = size.height == 1 and row - size.width > _MOST_NOTCH
    if box.rows == 1 and not box.image and not single:
        return Source(feature, box.top, box.left, box.surface)
    row = size.width if single else row
    shape = (feature.shape[0], size.height, row, size.padded_channels)
    return Source(seen(feature, shape, feature.surface_pixels, box.start))


def _rows_outside(source: Box, size: Size) -> bool:
    """Whether rows can be read as surfaces, which must be whole 64 bytes apart."""
    return source.row_pixels % WHOLE_PIXELS == 0 or size.height == 1


def _columns_outside(source: Box, size: Size) -> bool:
    """Whether columns can be read as surfaces: side by side, or whole 64 bytes apart."""
    side_by_side = source.columns == 1 or source.columns % WHOLE_PIXELS == 0
    return side_by_side and source.row_pixels <= _MOST_NOTCH


def _span(source: Box, size: Size) -> Size:
    """Return the size with all columns from the first to the last one."""
    return size._replace(width=(size.width - 1) * source.columns + 1)


def _aligned(name: str, source: Box, size: Size) -> Feature:
    """Return a map for pixels whose rows are whole 64 bytes."""
    images, height, width, channels = _span(source, size)
    width = -(-width // WHOLE_PIXELS) * WHOLE_PIXELS
    flip = source.feature.flip
    return Feature(f"{name}/aligned", (images, height, width, channels), flip=flip)


def _by_surface(
    name: str, source: Box, target: Box, size: Size, stages: Rescaling
) -> Iterator[Pass]:
    """Yield the walks over each surface: columns as rows of one pixel and rows as surfaces, or the
    other way round.
    """
    rows_outside = _rows_outside(source, size)
    outside, inside = (size.height, size.width) if rows_outside else (size.width, size.height)
    for surface in range(size.padded_channels // LANES):
        for first in range(0, outside, _MOST_SURFACES):
            count = min(_MOST_SURFACES, outside - first)
            part = Size(size.images, inside, 1, count * LANES)
            read, written = (
                _turned(box, surface, first, part, rows_outside) for box in (source, target)
            )
            yield _pass(name, read, written, part, stages)


def _turned(box: Box, surface: int, first: int, size: Size, rows_outside: bool) -> Box:
    """Return some rows, or columns, of one surface as surfaces."""
    feature, begin = box.feature, box._replace(surface=box.surface + surface)
    if rows_outside:
        begin = begin._replace(top=box.top + first * box.rows)
        inner, outer = box.columns, box.row_pixels
    else:
        begin = begin._replace(left=box.left + first * box.columns)
        inner, outer = box.row_pixels, box.columns
    shape = (feature.shape[0], size.height, inner, size.channels)
    return Box(seen(feature, shape, outer, begin.start))


def transposed(name: str, source: Feature, target: Feature) -> Iterator[Pass]:
    """Yield the passes that exchange rows and columns of a whole map."""
    images, height, width, _ = source.shape
    for surface in range(source.surfaces):
        for first in range(0, width, _MOST_SURFACES):
            columns = min(_MOST_SURFACES, width - first)
            read = Box(source, left=first, surface=surface).start
            written = Box(target, top=first, surface=surface).start
            channels = columns * LANES
            yield Pass(
                name,
                Source(seen(source, (images, height, width, channels), 1, read)),
                Source(seen(target, (images, height, 1, channels), height, written)),
                Size(images, height, 1, channels),
            )


def filled(name: str, target: Box, size: Size, byte: int) -> Pass:
    """Return the pass that writes one byte, as it is stored (-128 to 127), to all of a box.

    It reads what it overwrites, times 0.
    """
    place = _begin(target, size)
    return Pass(name, place, place, size, bs=Stage(factor=0), bn=Stage(add=byte))


def is_at(part: Feature, whole: Feature, start: int = 0) -> bool:
    """Whether a map begins so many bytes after another one."""
    return part.root is whole.root and part.start == whole.start + start


def copied_pixels(name: str, source: Feature, target: Feature) -> Iterator[Pass]:
    """Yield the passes that copy all pixels of each image in order; nothing where they are there.

    Both have as many pixels and channels; rows may be of another length.
    """
    if is_at(source, target):
        return
    as_source = seen(target, source.shape, target.surface_pixels)
    yield from copies(name, Box(source), Box(as_source), Size(*source.shape))
