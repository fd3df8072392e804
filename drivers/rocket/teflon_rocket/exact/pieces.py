# Ref: docs/hardware/rocket.md §3 (field widths)
"""Maps with more rows or columns than the DPU counts, as passes that take some pixels each.

Pixels of a map lie in a row, so where the operation does not look beside a pixel, how many of them
make a row does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from teflon_common.layout import LANES
from teflon_rocket.chips import Chip
from teflon_rocket.operations.passes import Size
from teflon_rocket.operations.stages import Pixels, Source


class Piece(NamedTuple):
    """Some pixels of a map, `first` the first one, arranged in `size`."""

    first: int
    size: Size
    whole: bool

    def of(self, source: Source) -> Source:
        """Return this piece of a whole map."""
        if self.whole or source.spread:
            return source
        feature, (_, height, width, channels) = source.feature, self.size
        shape = (feature.shape[0], height, width, channels)
        return Source(feature.part(feature.name, shape, self.first * LANES))

    def of_pixels(self, pixels: Pixels) -> Pixels:
        """Return this piece of constant bytes."""
        return pixels._replace(start=pixels.start + self.first * LANES)


def pieces(shape: tuple[int, int, int, int], chip: Chip) -> Iterator[Piece]:
    """Yield pieces of maps of (images, height, width, channels) that the DPU can count."""
    images, height, width, channels = shape
    if height <= chip.max_height and width <= chip.max_width:
        yield Piece(0, Size(*shape), True)
        return
    first, pixels = 0, height * width
    while first < pixels:
        columns = min(pixels - first, chip.max_width)
        rows = min((pixels - first) // columns, chip.max_height)
        yield Piece(first, Size(images, rows, columns, channels), False)
        first += rows * columns
