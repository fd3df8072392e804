"""The NN cores: one instruction computes one layer.

Ref: docs/hardware/etnaviv.md sections 3.1 (pooling), 8.2
Ref: docs/hardware/etnaviv_vendor.md, engine chosen by the vendor (the output stage's 2x2/2 pooling)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.simulator import _units, coefs, macs
from teflon_etnaviv.simulator.coefs import Kernels
from teflon_etnaviv.simulator.launch_cache import Scratch

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

_LARGEST, _FIRST_PIXEL = 1, 3
_SRAM_START = 0x800

# Ref: section 3.1. Fields that change nothing, or that are modelled, may have any value.
_FREE = frozenset(
    [
        "kernel_xy_size",
        "kernel_z_size",
        "kernels_per_core",
        "pooling",
        "pooling_xy_size",
        "in_image_x_size",
        "in_image_y_size",
        "in_image_x_offset",
        "in_image_y_offset",
        "relu",
        "post_multiplier",
        "post_shift",
        "out_image_x_size",
        "out_image_y_size",
        "out_image_z_size",
        "in_image_x_offset_bit_3",
        "in_image_y_offset_bit_3",
        "out_image_tile_x_size",
        "out_image_tile_y_size",
        "kernel_address",
        "in_image_address",
        "out_image_address",
        "image_caching_mode",
        "kernel_caching_mode",
        "kernel_pattern_msb",
        "kernel_y_size",
        "out_image_y_stride",
        "kernel_pattern_low",
        "kernel_pattern_high",
        "kernel_cache_start_address",
        "kernel_cache_end_address",
        "image_cache_start_address",
        "image_cache_end_address",
        "in_image_border_const",
        "post_multiplier_1_to_6",
        "post_shift_bit_5_6",
        "in_image_x_stride",
        "in_image_y_stride",
        "out_image_x_stride",
        "post_multiplier_7_to_14",
        "unused7_2",
        "unused7_3",
        "coef_zero_point",
        "out_zero_point",
        "depthwise",
        "post_multiplier_15_to_22",
        "no_z_offset",
        "no_flush",
    ]
)
_MUST = NNInstruction()


@dataclass(frozen=True)
class _Shape:
    """What an instruction's geometry means."""

    offset_x: int
    offset_y: int
    step: int  # 2 where only the first pixel of each 2x2 is kept
    multiplier: int
    shift: int


def _fail(where: str, text: str) -> None:
    raise SimulatorFault(f"{where}: {text}")


def check(i: NNInstruction, chip: Chip, where: str) -> None:
    """Raise SimulatorFault for fields that are not understood or contradict one another."""
    for field in i.fields:
        have, must = getattr(i, field.name), getattr(_MUST, field.name)
        if field.name not in _FREE and have != must:
            _fail(where, f"{field.name} is {have}, must be {must} (no other value is understood)")
    v8_only = ("unused7_2", "unused7_3", "depthwise", "post_multiplier_15_to_22")
    for name in v8_only if not chip.huffman else ():
        if getattr(i, name):
            _fail(where, f"{name} is {getattr(i, name)}, must be 0 before V8")
    if (i.no_z_offset, i.no_flush) != (chip.huffman, chip.huffman):
        wanted = int(chip.huffman)
        have = f"{i.no_z_offset}, {i.no_flush}"
        _fail(where, f"no_z_offset, no_flush are {have}, must both be {wanted} on {chip.name}")
    _check_sizes(i, chip, where)
    _check_sram(i, chip, where)


def _check_sizes(i: NNInstruction, chip: Chip, where: str) -> None:
    named = (
        "kernel_xy_size", "kernel_y_size", "kernel_z_size", "kernels_per_core", "in_image_x_size",
        "in_image_y_size", "out_image_x_size", "out_image_y_size", "out_image_z_size",
        "out_image_tile_x_size", "out_image_tile_y_size",
    )  # fmt: skip
    for name in named:
        if not getattr(i, name):
            _fail(where, f"{name} is 0, must be at least 1")
    covers = (i.kernel_xy_size, i.kernel_y_size) == (i.in_image_x_size, i.in_image_y_size)
    largest = chip.fc_kernel_y_max if covers else chip.kernel_size_max
    if max(i.kernel_xy_size, i.kernel_y_size) > largest:
        _fail(where, f"kernel is {i.kernel_xy_size}x{i.kernel_y_size}, must be at most {largest}")
    if (i.pooling, i.pooling_xy_size) not in ((0, 1), (_LARGEST, 0), (_FIRST_PIXEL, 0)):
        have = f"pooling is {i.pooling} of size {i.pooling_xy_size}"
        _fail(where, f"{have}, must be none (0 of size 1), or largest or first (1 or 3 of size 0)")
    if i.in_image_border_const > 0xFF:
        _fail(where, f"in_image_border_const is {i.in_image_border_const}, must be a byte")
    step = 2 if i.pooling else 1
    if i.out_image_x_stride * step != i.out_image_x_size:
        _fail(
            where,
            f"out_image_x_stride is {i.out_image_x_stride}, must be {i.out_image_x_size // step}",
        )
    if i.out_image_y_size % step:
        _fail(where, f"out_image_y_size is {i.out_image_y_size}, must be even with pooling")


def _check_sram(i: NNInstruction, chip: Chip, where: str) -> None:
    size = chip.on_chip_sram_size
    if i.kernel_caching_mode:
        start, end = i.kernel_cache_start_address, i.kernel_cache_end_address
        partial = i.kernel_caching_mode == 2 and end == 0
        if not partial and not _SRAM_START <= start < end <= size:
            _fail(where, f"kernel cache is {start:#x}..{end:#x}, must be in 0x800..{size:#x}")
    if i.image_caching_mode:
        start, end = i.image_cache_start_address, i.image_cache_end_address
        if not start < end <= size:
            _fail(where, f"image cache is {start:#x}..{end:#x}, must be in 0..{size:#x}")
        overlap = start < i.kernel_cache_end_address and end > i.kernel_cache_start_address
        if i.kernel_caching_mode and overlap:
            _fail(where, "kernel cache and image cache overlap in SRAM, must lie apart")


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _shape(i: NNInstruction, chip: Chip) -> _Shape:
    x = i.in_image_x_offset | i.in_image_x_offset_bit_3 << 3
    y = i.in_image_y_offset | i.in_image_y_offset_bit_3 << 3
    bits = 4
    if chip.huffman:
        x, y, bits = x | i.unused7_2 << 4, y | (i.unused7_3 & 1) << 4, 5
    multiplier = (
        i.post_multiplier
        | i.post_multiplier_1_to_6 << 1
        | i.post_multiplier_7_to_14 << 7
        | i.post_multiplier_15_to_22 << 15
    )
    shift = i.post_shift | i.post_shift_bit_5_6 << 5
    fraction = 15
    if chip.huffman:
        fraction, shift = 23, _signed(shift, 7) + 23
    return _Shape(
        offset_x=_signed(x, bits),
        offset_y=_signed(y, bits),
        step=2 if i.pooling == _FIRST_PIXEL else 1,
        multiplier=(1 << fraction) + multiplier,
        shift=shift,
    )


@dataclass(frozen=True)
class Launch:
    """A checked NN instruction with its kernels decoded, good while its buffer holds the same."""

    i: NNInstruction
    sums: macs.Sums
    channels: I64  # output plane of each kernel that is stored
    direct: bool  # results are stored at once; else only when all input was read
    stored: tuple[int, bytes]  # bytes that were decoded, and their digest

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in memory."""
        return sum(v.nbytes for v in vars(self.sums).values() if isinstance(v, np.ndarray))

    def holds(self, memory: DeviceMemory) -> bool:
        """Whether memory still has the coefficients that were decoded."""
        size, digest = self.stored
        return bool(digest) and _digest(self.i, size, memory) == digest

    def run(self, memory: DeviceMemory, scratch: Scratch, where: str) -> None:
        """Compute the layer."""
        i, grid = self.i, self.sums.grid
        slice_bytes = i.in_image_x_stride * i.in_image_y_stride
        size = (i.kernel_z_size - 1) * slice_bytes + i.in_image_x_size
        size += (i.in_image_y_size - 1) * i.in_image_x_stride
        image = memory.view(i.in_image_address, size, f"{where}: input")
        out, plane = _output(i, grid, memory, where)
        seen = grid.seen(image, i, scratch.of(i.kernel_z_size * grid.slice))
        if self.direct:
            self.sums.run(seen, out, i.out_image_x_stride)
            return
        values = np.empty((len(self.sums.places), grid.rows, grid.columns), np.uint8)
        self.sums.run(seen, values.reshape(-1), grid.columns)
        if i.pooling == _LARGEST:
            values = _largest(values)
        pitch = (plane, i.out_image_x_stride, 1)
        planes = as_strided(out, (i.out_image_z_size, *values.shape[1:]), pitch)
        planes[self.channels] = values[self.sums.places[: len(values)] >= 0]


def _digest(i: NNInstruction, size: int, memory: DeviceMemory) -> bytes:
    """Return the digest of coefficients; nothing where they do not lie in one buffer."""
    address = i.kernel_address << 6
    found = memory.find(address)
    if found is None or found.end - address < size:
        return b""
    return _units.digest(found.data[address - found.address :][:size])


def _output(i: NNInstruction, grid: macs.Grid, memory: DeviceMemory, where: str) -> tuple[U8, int]:
    """Return the bytes that an instruction writes, and the distance of its planes."""
    plane = i.out_image_x_stride * i.out_image_y_stride
    factor = 2 if i.pooling == _LARGEST else 1
    size = (i.out_image_z_size - 1) * plane + grid.columns // factor
    size += (grid.rows // factor - 1) * i.out_image_x_stride
    return memory.view(i.out_image_address, size, f"{where}: output"), plane


def _largest(values: U8) -> U8:
    """Return the largest of each 2x2 pixels of [planes, rows, columns]."""
    pairs = np.maximum(values[:, ::2], values[:, 1::2])
    found: U8 = np.maximum(pairs[:, :, ::2], pairs[:, :, 1::2])
    return found


def ready(i: NNInstruction, chip: Chip, memory: DeviceMemory, where: str) -> Launch:
    """Check an instruction and decode what it computes with."""
    check(i, chip, where)
    kernels = coefs.read(i, chip, memory, where)
    if i.kernel_caching_mode == 1:
        room = i.kernel_cache_end_address - i.kernel_cache_start_address
        if kernels.used_bytes > room:
            _fail(where, f"kernels take {kernels.used_bytes} bytes, must fit the cache's {room}")
    real = kernels.channel < i.out_image_z_size
    channels = kernels.channel[real]
    if len(np.unique(channels)) != i.out_image_z_size:
        _fail(where, f"{len(np.unique(channels))} planes are written, must be {i.out_image_z_size}")
    shape = _shape(i, chip)
    taps, size = (i.kernel_y_size, i.kernel_xy_size), kernels.stored_bytes
    if kernels.addend is not None:
        kernels, taps = _added(kernels, where), (1, 1)
    grid = macs.grid(i, (shape.offset_y, shape.offset_x), taps, shape.step)
    direct = len(channels) == i.out_image_z_size and i.pooling != _LARGEST and _apart(i, grid)
    pitch = i.out_image_x_stride * i.out_image_y_stride if direct else grid.rows * grid.columns
    planes = kernels.channel if direct else np.arange(len(kernels.channel))
    rescale = macs.Rescale(shape.multiplier, shape.shift, bool(i.relu), i.out_zero_point)
    return Launch(
        i=i,
        sums=macs.arrange(
            grid, kernels, i.coef_zero_point, _base(chip), np.where(real, planes * pitch, -1),
            rescale,
        ),
        channels=channels,
        direct=direct,
        stored=(size, _digest(i, size, memory)),
    )  # fmt: skip


def _base(chip: Chip) -> int:
    """Return what the MAC units subtract from each pixel."""
    return 128 if chip.huffman else 0


def _added(kernels: Kernels, where: str) -> Kernels:
    """Return a V7 addition as a kernel of two planes: of its taps only the first ones count."""
    addend = kernels.addend or 0
    if addend > 0xFF:
        _fail(where, f"the second plane's taps are #{addend:x}, must be one byte")
    weights = np.array([[[kernels.weights[0, 0, 0]], [addend]]], np.uint8)
    return dataclasses.replace(kernels, weights=weights, plane=None)


def _apart(i: NNInstruction, grid: macs.Grid) -> bool:
    """Whether output planes overlap neither one another nor the input."""
    plane = i.out_image_x_stride * i.out_image_y_stride
    size = (grid.rows - 1) * i.out_image_x_stride + grid.columns
    start, end = i.out_image_address, i.out_image_address + (i.out_image_z_size - 1) * plane + size
    last = (i.kernel_z_size * i.in_image_y_stride + i.in_image_y_size) * i.in_image_x_stride
    first = i.in_image_address
    apart = end <= first or first + last + i.in_image_x_size <= start
    return apart and size <= plane and grid.columns <= i.out_image_x_stride
