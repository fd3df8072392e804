"""The sums of the MAC units: kernels in order, and where the pixels of each weight lie.

The pixels that a weight is multiplied with follow one another in memory (see `Grid`). So a layer is
a product of two matrices. The second one is never built: the C module reads it from the image.

Ref: docs/hardware/etnaviv.md section 8.2
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teflon import workers
from teflon.errors import SimulatorFault
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.simulator import _macs, _windows
from teflon_etnaviv.simulator.coefs import Kernels

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]
Scale = tuple[int, int, bool, int, bool]

_TILE = 6  # kernels that the C module sums at once; native/product.h
_LANES = 16  # pixels that it sums at once
_LARGE = 1 << 22  # multiplications that are worth a second thread
_WASTE = 2  # rows that are further apart than this times their length are copied first


@dataclass(frozen=True)
class Grid:
    """Where the pixels lie that each output is summed from.

    For output (y, x) a tap reads the pixel y * pitch + x behind the tap's own offset. Where all
    these pixels lie in the image, they are read there, from `origin` on. Else they are read from a
    copy with a border, which has step * step phases of high * wide pixels for each plane.
    """

    rows: int
    columns: int
    pitch: int
    slice: int
    offsets: I64
    origin: int
    start: tuple[int, int]
    phase: tuple[int, int] | None
    step: int

    @property
    def pixels(self) -> int:
        """How many there are from the first output to the last one, gaps between rows included."""
        return (self.rows - 1) * self.pitch + self.columns

    def seen(self, image: U8, i: NNInstruction, scratch: U8) -> U8:
        """Return the bytes that offsets count from; `scratch` has room for the copy."""
        if self.phase is None:
            return image[self.origin :]
        shape = (
            i.kernel_z_size, i.in_image_y_size, i.in_image_x_size,
            i.in_image_x_stride * i.in_image_y_stride, i.in_image_x_stride,
        )  # fmt: skip
        _windows.window(
            image, scratch, shape, self.start, self.phase, self.step, i.in_image_border_const
        )
        return scratch


def grid(i: NNInstruction, start: tuple[int, int], taps: tuple[int, int], step: int) -> Grid:
    """Return how the outputs of an instruction lie, with `taps` rows and columns of a kernel."""
    rows, columns = -(-i.out_image_y_size // step), -(-i.out_image_x_size // step)
    pitch = i.in_image_x_stride
    y, x = (n.reshape(-1) for n in np.divmod(np.arange(taps[0] * taps[1]), taps[1]))
    last = (start[0] + rows + taps[0] - 2, start[1] + columns + taps[1] - 2)
    within = min(start) >= 0 and last[0] < i.in_image_y_size and last[1] < i.in_image_x_size
    if step == 1 and within and columns <= pitch <= _WASTE * columns:
        return Grid(
            rows, columns, pitch, pitch * i.in_image_y_stride, y * pitch + x,
            start[0] * pitch + start[1], start, None, 1,
        )  # fmt: skip
    high, wide = (-(-(n * step + t - 1) // step) for n, t in ((rows, taps[0]), (columns, taps[1])))
    offsets = (y % step * step + x % step) * high * wide + y // step * wide + x // step
    return Grid(
        rows, columns, wide, step * step * high * wide, offsets, 0, start, (high, wide), step
    )


@dataclass(frozen=True)
class Dense:
    """Kernels that look at many planes; arrays as `_macs.dense` takes them."""

    grid: Grid
    offsets: I32
    weights: U8
    bias: I32
    places: I64
    zero: int
    scale: Scale

    def work(self) -> int:
        """Return the number of multiplications."""
        return self.weights.size * self.grid.pixels

    def run(self, seen: U8, out: U8, out_pitch: int) -> None:
        """Sum and store all outputs."""
        kernels = len(self.places)
        lanes, tiles = -(-self.grid.pixels // _LANES), -(-kernels // _TILE)

        def part(mine: range) -> None:
            some, of = (mine.start, mine.stop), (0, kernels)
            if lanes < tiles:
                some, of = (0, lanes), (mine.start * _TILE, min(mine.stop * _TILE, kernels))
            _macs.dense(
                seen, self.offsets, self.weights, self.bias, self.places, out, self.zero,
                (self.grid.rows, self.grid.columns, self.grid.pitch, out_pitch), self.scale,
                some, of,
            )  # fmt: skip

        _shared(part, max(lanes, tiles), self.work())


@dataclass(frozen=True)
class Single:
    """Kernels that look at one plane each; arrays as `_macs.single` takes them."""

    grid: Grid
    planes: I64
    offsets: I32
    factors: npt.NDArray[np.int16]
    bias: I32
    places: I64
    scale: Scale

    def work(self) -> int:
        """Return the number of multiplications."""
        return self.factors.size * self.grid.pixels

    def run(self, seen: U8, out: U8, out_pitch: int) -> None:
        """Sum and store all outputs. Raises SimulatorFault where they do not fit `out`."""

        def part(mine: range) -> None:
            _macs.single(
                seen, self.planes, self.offsets, self.factors, self.bias, self.places, out,
                (self.grid.rows, self.grid.columns, self.grid.pitch, out_pitch), self.scale,
                (mine.start, mine.stop),
            )  # fmt: skip

        try:
            _shared(part, len(self.places), self.work())
        except ValueError as error:
            raise SimulatorFault(f"the instruction's input, kernels or output: {error}") from error


Sums = Dense | Single


def _shared(part: Callable[[range], None], count: int, work: int) -> None:
    """Do the `count` parts of a layer; on all processors where it is large."""
    if work < _LARGE:
        part(range(count))
    else:
        workers.shared(part, workers.rows(count))


@dataclass(frozen=True)
class Rescale:
    """From sums to bytes: multiply, shift with halves to even, relu, zero point."""

    multiplier: int
    shift: int
    relu: bool
    zero: int

    def bounded(self, largest: int) -> Scale:
        """Return it for sums up to `largest`, which wrap at 32 bits."""
        small = min(largest, 2**31) * self.multiplier < 2**53
        return (self.multiplier, self.shift, self.relu, self.zero, small)


def arrange(
    grid: Grid, kernels: Kernels, zero: int, base: int, places: I64, rescale: Rescale
) -> Sums:
    """Return kernels ready to be summed.

    zero: what is taken from each weight; base: what is taken from each pixel. The sum of
    (w - zero) * (x - base) is that of (w - zero) * x less a constant, which goes to the bias.
    """
    count = len(kernels.weights)
    factors = kernels.weights.reshape(count, -1).astype(np.int16) - np.int16(zero)
    bias = kernels.bias - base * factors.sum(axis=1, dtype=np.int64)
    magnitude = np.abs(factors).sum(axis=1, dtype=np.int64) * max(base, 255 - base)
    scale = rescale.bounded(int((np.abs(kernels.bias) + magnitude).max()))
    wrapped = bias.astype(np.int32)
    if kernels.plane is not None:
        planes = kernels.plane * grid.slice
        offsets = grid.offsets.astype(np.int32)
        return Single(grid, planes, offsets, factors, wrapped, places, scale)
    return _dense(grid, kernels.weights, zero, wrapped, places, scale)


def _dense(grid: Grid, weights: U8, zero: int, bias: I32, places: I64, scale: Scale) -> Dense:
    count, planes, taps = weights.shape
    depth = planes * taps
    even = np.full((count, depth + depth % 2), zero, np.uint8)
    even[:, :depth] = weights.reshape(count, depth)
    offsets = (np.arange(planes)[:, None] * grid.slice + grid.offsets).astype(np.int32)
    return Dense(grid, offsets.reshape(-1), even, bias, places, zero, scale)
