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
from teflon_rocket.exact.scales import Affine, output_multiplier
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.passes import UNCHANGED, Pass, Size
from teflon_rocket.operations.stages import OFF, Source, Stage

_MOST_NOTCH = (1 << 13) - 1  # NOTCH_ADDR_0, LINE_NOTCH_ADDR
_MOST_ROWS = 1 << 13  # HEIGHT
_MOST_SURFACES = 511  # CHANNEL has 13 bits and must stay below its maximum

Shape = tuple[int, int, int, int]


class Rescale(NamedTuple):
    """From which scale and zero point to which other."""

    source: Affine
    target: Affine

    def stages(self, where: str) -> tuple[Stage, Converter]:
        """Return BS and the output converter. Raises LimitExceeded for a factor out of reach."""
        if self.source == self.target:
            return OFF, UNCHANGED
        factor = output_multiplier(self.source.scale / self.target.scale, where)
        converter = Converter(self.target.zero - 128, factor.multiplier, factor.shift)
        return Stage(add=128 - self.source.zero), converter


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
    name: str, source: Box, target: Box, size: Size, rescale: Rescale | None = None
) -> Iterator[Pass]:
    """Yield the passes that copy a part of a map; pixels are taken to another scale on the way.

    Raises LimitExceeded for a scale out of reach.
    """
    bs, output = (OFF, UNCHANGED) if rescale is None else rescale.stages(name)
    apart = max(source.columns, target.columns) > 1 and size.width > 1
    far = max(source.row_pixels, target.row_pixels) - size.width > _MOST_NOTCH
    walks = _by_surface(source, target, size) if apart or far else [(source, target, size)]
    for read, written, part in walks:
        yield Pass(name, _begin(read, part), _begin(written, part), part, bs=bs, output=output)


def _begin(box: Box, size: Size) -> Source:
    """Return the place of a box whose columns follow each other."""
    feature = box.feature
    if box.rows == 1 and not box.image:
        return Source(feature, box.top, box.left, box.surface)
    shape = (feature.shape[0], size.height, box.row_pixels, size.padded_channels)
    return Source(seen(feature, shape, feature.surface_pixels, box.start))


def _by_surface(source: Box, target: Box, size: Size) -> Iterator[tuple[Box, Box, Size]]:
    """Yield the walks over each surface: columns as rows, rows as surfaces."""
    for surface in range(size.padded_channels // LANES):
        for first in range(0, size.height, _MOST_SURFACES):
            rows = min(_MOST_SURFACES, size.height - first)
            boxes = [_turned(box, surface, first, rows, size.width) for box in (source, target)]
            yield *boxes, Size(size.images, size.width, 1, rows * LANES)  # type: ignore[misc]


def _turned(box: Box, surface: int, first: int, rows: int, columns: int) -> Box:
    """Return some rows of one surface as surfaces of one row for each column."""
    feature = box.feature
    begin = box._replace(top=box.top + first * box.rows, surface=box.surface + surface)
    shape = (feature.shape[0], columns, box.columns, rows * LANES)
    return Box(seen(feature, shape, box.row_pixels, begin.start))


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
    images, height, width, channels = source.shape
    as_source = seen(target, source.shape, target.surface_pixels)
    for first in range(0, height, _MOST_ROWS):
        rows = min(_MOST_ROWS, height - first)
        size = Size(images, rows, width, channels)
        yield from copies(name, Box(source, top=first), Box(as_source, top=first), size)
