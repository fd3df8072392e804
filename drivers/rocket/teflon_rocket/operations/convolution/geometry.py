# Ref: docs/hardware/rocket.md §4.2 (strides), §6.3 (sizes)
# Ref: docs/hardware/rocket_vendor.md finding 4 (depthwise rows)
"""The sizes of a convolution, as the registers count them."""

from __future__ import annotations

from dataclasses import dataclass

from teflon_common.layout import LANES
from teflon_rocket.operations.convolution.coefs import row_bytes
from teflon_rocket.operations.convolution.tiles import Tile


@dataclass(frozen=True)
class Geometry:
    """Sizes of one convolution; `width` counts along the CNA's x axis.

    dilation: distance of the kernel's taps, x and y. spread: distance that a deconvolution puts
    between the input's columns and rows; what lies between them counts as padding. rows: the input
    is one channel and lies as rows of bytes, not as surfaces. in_addition: the DPU
    adds a feature map to the result, or the result is what another convolution adds.
    """

    width: int
    height: int
    channels: int
    out_width: int
    out_height: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)  # width, height
    stride: tuple[int, int] = (1, 1)  # x, y
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)  # left, right, top, bottom
    depthwise: bool = False
    images: int = 1
    rows: bool = False
    in_addition: bool = False
    dilation: tuple[int, int] = (1, 1)
    spread: tuple[int, int] = (1, 1)

    @property
    def converts(self) -> bool:
        """Whether the CNA converts bytes of a few interleaved channels as it fetches them."""
        return self.rows

    @property
    def deconvolution(self) -> bool:
        return self.spread != (1, 1)

    @property
    def reach(self) -> tuple[int, int]:
        """Columns and rows from the kernel's first tap to its last."""
        (width, height), (across, down) = self.kernel, self.dilation
        return (width - 1) * across + 1, (height - 1) * down + 1

    @property
    def taps(self) -> int:
        return self.kernel[0] * self.kernel[1]

    @property
    def atoms(self) -> int:
        """16-byte atoms of one input pixel."""
        return -(-self.channels // LANES)

    @property
    def padded_channels(self) -> int:
        return max(self.atoms, 1) * LANES

    @property
    def kernels(self) -> int:
        """Kernels as the device counts them: 1 for depthwise, else an even number."""
        return 1 if self.depthwise else self.out_channels + self.out_channels % 2

    @property
    def padded_out_channels(self) -> int:
        padded = _align(max(self.out_channels, 32), 32)
        if not self.depthwise:
            return padded
        return _align(padded * 2 if self.out_channels <= 32 else padded, 64)

    @property
    def weights_shape(self) -> tuple[int, int, int]:
        """Kernels, taps and channels of the weights, nothing padded."""
        return 1 if self.depthwise else self.out_channels, self.taps, self.channels

    @property
    def weight_bytes(self) -> int:
        """WEIGHT_SIZE0: what the device loads."""
        return self.kernel_bytes * self.kernels

    @property
    def kernel_bytes(self) -> int:
        """WEIGHT_SIZE1."""
        return self.taps * row_bytes(self.channels, self.depthwise)

    @property
    def out_pixels(self) -> int:
        """Pixels of one surface of the output."""
        return self.out_width * self.out_height

    @property
    def row_pitch(self) -> int:
        """Bytes of a row of an input that lies as rows: the CNA takes whole 16 for one."""
        return _align(self.width, LANES)

    def is_part(self, columns: int) -> bool:
        """Whether rows of so many columns do not follow each other without gaps."""
        return columns < self.width and not self.rows

    def strides(self, surface_pixels: int, columns: int) -> tuple[int, int]:
        """Return LINE_STRIDE and SURF_STRIDE of columns of an input with surfaces so far apart.

        Rows are fetched in groups of four, which lie together; those of a part one by one.
        """
        if self.rows:
            line = max(self.width, LANES)
            return line, line * (self.height - 1)
        if self.is_part(columns):
            return self.width, surface_pixels - columns
        return self.width * 4, surface_pixels - self.width * 4

    def entries(self, columns: int) -> int:
        """Return CBUF_CON1.DATA_ENTRIES of a tile of so many columns."""
        width = self.fetched_width(columns)
        if self.converts:
            return _align(width, LANES) * self.height
        part = self.atoms % 4
        return self.atoms // 4 * width + (width if part == 3 else -(-part * width // 4))

    def split_entries(self, columns: int) -> int:
        """Return 128-byte entries of one row of so many columns, as Mesa counts to split."""
        columns = _align(columns, LANES) if self.rows else columns
        part = self.atoms % 8
        return self.atoms // 8 * columns + (columns if part == 3 else -(-part * columns // 8))

    def whole(self) -> Tile:
        """Return the tile that is all of an image."""
        return Tile(
            rows=self.height,
            pad_top=self.pads[2],
            columns=self.width,
            pad_left=self.pads[0],
            out_rows=self.out_height,
            out_columns=self.out_width,
        )

    def fetched_width(self, columns: int) -> int:
        """Return DATAIN_WIDTH of a tile of so many columns.

        Why 8 columns beside an addition are doubled is not known: Mesa does it.
        """
        wide = columns * 2 if columns == 8 == self.width and self.in_addition else columns
        return max(wide, LANES) if self.rows else wide

    def input_offset(self, tile: Tile) -> int:
        """Return the byte offset of a tile from the beginning of its image."""
        if self.rows:
            return tile.top * self.row_pitch + tile.left
        return (tile.top * self.width + tile.left) * LANES

    def output_offset(self, tile: Tile) -> int:
        """Return the byte offset of a tile's result from the beginning of its surface."""
        return (tile.out_top * self.out_width + tile.out_left) * LANES


def _align(number: int, to: int) -> int:
    return -(-number // to) * to
