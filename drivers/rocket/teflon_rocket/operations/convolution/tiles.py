"""How a convolution is cut into tasks that fit the convolution buffer."""

from __future__ import annotations

from typing import NamedTuple


class Tile(NamedTuple):
    """What one task computes: rows and columns of the input and of the output."""

    image: int = 0
    top: int = 0
    rows: int = 0
    pad_top: int = 0
    left: int = 0
    columns: int = 0
    pad_left: int = 0
    out_top: int = 0
    out_rows: int = 0
    out_left: int = 0
    out_columns: int = 0

    def text(self) -> str:
        """Return the tile in words."""
        image = f"image {self.image} " if self.image else ""
        rows = f"rows {self.top}+{self.rows} -> {self.out_top}+{self.out_rows}"
        columns = f"columns {self.left}+{self.columns} -> {self.out_left}+{self.out_columns}"
        return f"{image}{rows}, {columns}, padding {self.pad_top} above {self.pad_left} left"


class Split(NamedTuple):
    """The tiles of a convolution, and how they share the banks of the convolution buffer.

    reuse: the weights stay in the buffer, so only the first task loads them.
    """

    tiles: tuple[Tile, ...]
    data_banks: int
    weight_banks: int
    reuse: bool
