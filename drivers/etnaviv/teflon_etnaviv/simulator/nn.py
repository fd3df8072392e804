"""The NN cores: one instruction computes one layer.

Ref: docs/hardware/etnaviv.md section 8.2
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.simulator import coefs
from teflon_etnaviv.simulator.coefs import Kernels

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

_FIRST_PIXEL = 3
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

_CHUNK = 256  # products of two bytes that add up exactly in a float32


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
    """Raise SimulatorFault for fields that are not understood or cannot be meant."""
    for field in i.fields:
        have, must = getattr(i, field.name), getattr(_MUST, field.name)
        if field.name not in _FREE and have != must:
            _fail(where, f"{field.name} is {have}, must be {must} (nothing else is known)")
    v8_only = ("unused7_2", "unused7_3", "depthwise", "post_multiplier_15_to_22")
    for name in v8_only if not chip.huffman else ():
        if getattr(i, name):
            _fail(where, f"{name} is {getattr(i, name)}, must be 0 before V8")
    if (i.no_z_offset, i.no_flush) != (chip.huffman, chip.huffman):
        _fail(where, f"no_z_offset, no_flush are {i.no_z_offset}, {i.no_flush} on {chip.name}")
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
    if (i.pooling, i.pooling_xy_size) not in ((0, 1), (_FIRST_PIXEL, 0)):
        _fail(where, f"pooling is {i.pooling} of size {i.pooling_xy_size}, must be none or first")
    step = 2 if i.pooling else 1
    if i.out_image_x_stride * step != i.out_image_x_size:
        _fail(where, f"output rows are {i.out_image_x_size} long, apart {i.out_image_x_stride}")


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
            _fail(where, "kernel cache and image cache overlap in SRAM")


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


def _window(i: NNInstruction, shape: _Shape, memory: DeviceMemory, where: str) -> F32:
    """Return [plane, row, column] of everything that any tap can see, base still included."""
    planes = i.kernel_z_size
    pitch = (i.in_image_x_stride * i.in_image_y_stride, i.in_image_x_stride, 1)
    size = (planes, i.in_image_y_size, i.in_image_x_size)
    image = memory.strided(i.in_image_address, size, pitch, np.uint8, f"{where}: input")
    rows = i.out_image_y_size + i.kernel_y_size - 1
    columns = i.out_image_x_size + i.kernel_xy_size - 1
    window = np.full((planes, rows, columns), i.in_image_border_const, np.float32)
    top, left = -shape.offset_y, -shape.offset_x
    to_y, from_y = (top, 0) if top >= 0 else (0, -top)
    to_x, from_x = (left, 0) if left >= 0 else (0, -left)
    height = max(min(rows - to_y, size[1] - from_y), 0)
    width = max(min(columns - to_x, size[2] - from_x), 0)
    part = image[:, from_y : from_y + height, from_x : from_x + width]
    window[:, to_y : to_y + height, to_x : to_x + width] = part
    return window


def _tap(window: F32, i: NNInstruction, shape: _Shape, tap: int) -> F32:
    """Return [plane, row, column] of what one tap sees at every output."""
    row, column = divmod(tap, i.kernel_xy_size)
    return window[
        :,
        row : row + i.out_image_y_size : shape.step,
        column : column + i.out_image_x_size : shape.step,
    ]


def _dense(window: F32, weights: F32, i: NNInstruction, shape: _Shape) -> F64:
    """Return sums [kernel, pixel] over all planes and taps, exact."""
    kernels, planes, taps = weights.shape
    pixels = _tap(window, i, shape, 0)[0].size
    total = np.zeros((kernels, pixels))
    at_once = max(_CHUNK // planes, 1)
    for first in range(0, taps, at_once):
        group = range(first, min(first + at_once, taps))
        for start in range(0, planes, _CHUNK):
            end = min(start + _CHUNK, planes)
            seen = np.concatenate(
                [_tap(window[start:end], i, shape, t).reshape(end - start, -1) for t in group]
            )
            factors = np.concatenate([weights[:, start:end, t] for t in group], axis=1)
            total += factors @ seen
    return total


def _single(window: F32, weights: F32, plane: npt.NDArray[np.intp], i: NNInstruction,
            shape: _Shape) -> F64:  # fmt: skip
    """Return sums [kernel, pixel] where each kernel looks at one plane; weights [kernel, tap]."""
    seen = _tap(window, i, shape, 0)
    total = np.zeros((len(plane), *seen.shape[1:]), np.float32)
    for tap in range(weights.shape[1]):
        total += weights[:, tap, None, None] * _tap(window, i, shape, tap)[plane]
    return total.reshape(len(plane), -1).astype(np.float64)


def _sums(i: NNInstruction, chip: Chip, shape: _Shape, kernels: Kernels, window: F32) -> F64:
    """Return the accumulators [kernel, pixel] without biases."""
    base = 128 if chip.huffman else 0
    window -= base
    if kernels.addend is not None:
        first = np.float32(kernels.weights[0, 0, 0])
        seen = _tap(window, i, shape, 0)
        both: F32 = first * seen[0] + np.float32(kernels.addend) * seen[1]
        summed: F64 = both.reshape(1, -1).astype(np.float64)
        return summed
    weights = kernels.weights.astype(np.float32) - np.float32(i.coef_zero_point)
    if i.depthwise:
        return _single(window, weights[:, 0], kernels.channel.astype(np.intp), i, shape)
    used = (weights != 0).any(axis=2)
    if i.kernel_z_size > 1 and used.sum(axis=1).max(initial=0) <= 1:
        plane = used.argmax(axis=1)
        return _single(window, weights[np.arange(len(plane)), plane], plane, i, shape)
    return _dense(window, weights, i, shape)


def _requantise(sums: F64, i: NNInstruction, shape: _Shape) -> npt.NDArray[np.uint8]:
    """Scale, round half to even, relu, zero point, clamp. Accumulators wrap at 32 bits."""
    largest = float(np.abs(sums).max(initial=0))
    if largest >= 2.0**31:
        sums = sums.astype(np.int64).astype(np.int32).astype(np.float64)
        largest = 2.0**31
    if largest * shape.multiplier < 2.0**53:
        value = np.rint(sums * float(shape.multiplier) * 2.0**-shape.shift)
    else:
        value = _exact_shift(sums.astype(np.int64) * shape.multiplier, shape.shift)
    if i.relu:
        value = np.maximum(value, 0)
    result: npt.NDArray[np.uint8] = np.clip(value + i.out_zero_point, 0, 255).astype(np.uint8)
    return result


def _exact_shift(product: npt.NDArray[np.int64], shift: int) -> F64:
    if shift <= 0:
        return product.astype(np.float64) * 2.0**-shift
    if shift > 62:
        return np.zeros(product.shape)
    whole = product >> shift
    rest = product - (whole << shift)
    half = 1 << (shift - 1)
    up = (rest > half) | ((rest == half) & (whole & 1 == 1))
    rounded: F64 = (whole + up).astype(np.float64)
    return rounded


def run(i: NNInstruction, chip: Chip, memory: DeviceMemory, where: str) -> None:
    """Execute one NN instruction."""
    check(i, chip, where)
    kernels = coefs.read(i, chip, memory, where)
    if i.kernel_caching_mode == 1:
        room = i.kernel_cache_end_address - i.kernel_cache_start_address
        if kernels.used_bytes > room:
            _fail(where, f"kernels take {kernels.used_bytes} bytes, the cache has {room}")
    shape = _shape(i, chip)
    window = _window(i, shape, memory, where)
    sums = _sums(i, chip, shape, kernels, window) + kernels.bias[:, None]
    values = _requantise(sums, i, shape)
    _store(values, i, shape, kernels, memory, where)


def _store(
    values: npt.NDArray[np.uint8],
    i: NNInstruction,
    shape: _Shape,
    kernels: Kernels,
    memory: DeviceMemory,
    where: str,
) -> None:
    rows = -(-i.out_image_y_size // shape.step)
    columns = -(-i.out_image_x_size // shape.step)
    real = kernels.channel < i.out_image_z_size
    channels = kernels.channel[real]
    if len(np.unique(channels)) != i.out_image_z_size:
        _fail(where, f"{len(np.unique(channels))} planes are written of {i.out_image_z_size}")
    pitch = (i.out_image_x_stride * i.out_image_y_stride, i.out_image_x_stride, 1)
    size = (i.out_image_z_size, rows, columns)
    out = memory.strided(i.out_image_address, size, pitch, np.uint8, f"{where}: output")
    out[channels] = values[real].reshape(-1, rows, columns)
