# Ref: docs/hardware/rocket.md §4.1, §4.2, §6.2, §6.3 (data entries)
"""Sizes of a convolution where Mesa 26.2.6 has another rule than the hardware."""

from __future__ import annotations

from dataclasses import dataclass

from teflon_common.layout import LANES
from teflon_rocket.operations.convolution import Geometry, Tile

_ENTRIES = 0x3FFF
"""Mesa's DATA_ENTRIES has 14 bits; the hardware's has 15."""


@dataclass(frozen=True)
class MesaGeometry(Geometry):
    """What Mesa programs, mistakes included.

    `rows` is what Mesa takes the input for: an intermediate map of one channel lies as surfaces.
    """

    @property
    def converts(self) -> bool:
        return self.channels == 1

    @property
    def kernel_bytes(self) -> int:
        """Depthwise rows of 48 bytes, too: the hardware has none."""
        return self.taps * self.padded_channels

    def entries(self, columns: int) -> int:
        width = self.fetched_width(self.width)
        if self.converts:
            return width * self.height & _ENTRIES
        if width == self.channels == 40:
            return 40
        return -(-width * 2 * self.atoms // 8)

    def split_entries(self, columns: int) -> int:
        """Without rounding up to 16 columns what lies as rows."""
        part = self.atoms % 8
        return self.atoms // 8 * columns + (columns if part == 3 else -(-part * columns // 8))

    def input_offset(self, tile: Tile) -> int:
        """Rows of bytes are taken for surfaces: wrong for all tasks but the first."""
        return (tile.top * self.width + tile.left) * LANES
