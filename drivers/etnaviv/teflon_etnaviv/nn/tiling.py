"""How the NN cores cut a layer: tiles, superblocks, and what the on-chip SRAM holds of it.

Ref: docs/hardware/etnaviv.md sections 4.5, 4.6, 4.8
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c
"""

from __future__ import annotations

from dataclasses import dataclass

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.rounding import align, cdiv

_SRAM_START = 0x800  # what lies before is left alone
_SRAM_KERNELS_MIN_END = 0xA00
_HAND_TUNED_V8_ROWS = 4  # Mesa's own limit, tuned for MobileDet
_KERNELS_PER_CORE_MAX = 127


@dataclass(frozen=True)
class Tiles:
    """The cut of a layer: tiles (Mesa's axes: x comes from the height) and groups of kernels."""

    x: int
    y: int
    superblocks: int
    kernels_per_core: int


def _grid(layer: Layer) -> tuple[int, int]:
    """Return (height, width) of the grid that the cores compute."""
    factor = 2 if layer.halves else 1
    return layer.out_height * factor, layer.out_width * factor


def _interleave(chip: Chip, tile_x: int, span: int) -> int:
    """Return how many rows share one line of the input buffer."""
    if chip.huffman:
        if span > 36 or tile_x > 32:
            return 1
        return 4 if tile_x <= 16 and span <= 18 else 2
    base = 8 if tile_x <= 8 else 4 if tile_x <= 16 else 2 if tile_x <= 32 else 1
    if span > 36:
        return 1
    return min(base, 4) if span > 18 else min(base, 2)


def _tile_size(layer: Layer, chip: Chip) -> tuple[int, int, int]:
    """Return (x, y, interleave)."""
    height, width = _grid(layer)
    tile_x = min(height, 64)
    interleave = _interleave(chip, tile_x, layer.kernel_width - 1 + tile_x)
    rows = (chip.nn_input_buffer_depth * interleave - layer.kernel_width + 1) % (1 << 32)
    tile_y = min(rows, interleave * chip.nn_accum_buffer_depth, width)
    if chip.huffman:
        tile_y = min(tile_y, _HAND_TUNED_V8_ROWS)
    if layer.stride > 1 and tile_y % 2:
        tile_y -= 1
    return tile_x, max(tile_y, 1), interleave


def _kernels_at_once(layer: Layer, chip: Chip, tile: tuple[int, int, int]) -> int:
    """Return how many kernels' accumulators fit one core."""
    tile_x, tile_y, interleave = tile
    depth = chip.nn_accum_buffer_depth
    if not chip.huffman:
        count = depth * interleave // tile_y
        return min(count, depth // 3) if layer.kernel_height == 1 else count
    if layer.kernel_height == 1:
        count = depth // cdiv(tile_y, interleave)
    else:
        pixels = cdiv(tile_y * tile_x, layer.stride)
        count = depth // (cdiv(pixels, 64) * layer.stride)
    return min(count, 6 * depth // 9)


def tiles(layer: Layer, chip: Chip) -> Tiles:
    """Return the cut of a layer."""
    tile = _tile_size(layer, chip)
    cores = chip.nn_core_count
    kernels = layer.out_channels
    per_core = cdiv(kernels, cores)
    at_once = min(_kernels_at_once(layer, chip, tile), per_core, _KERNELS_PER_CORE_MAX)
    at_once = max(at_once, 1)
    groups = cdiv(kernels, cores * at_once)
    superblocks = cdiv(per_core, cdiv(kernels, groups * cores))
    return Tiles(tile[0], tile[1], superblocks, cdiv(per_core, superblocks))


@dataclass(frozen=True)
class Sram:
    """What the NN instruction says about the on-chip memory."""

    kernel_mode: int
    kernel_end: int
    image_mode: int
    image_start: int
    image_end: int
    pattern: tuple[int, int, int] = (0, 0, 0)  # length - 1, bits 31:0, bits 63:32


def _pattern(out_channels: int) -> tuple[int, int, int]:
    """Return which blocks of coefficients stay in SRAM, as observed from the vendor's driver."""
    if out_channels >= 1024:
        return 0x13, 0x00080000, 0
    if out_channels >= 512:
        return 0x3D, 0, 0x2AAAAAA0
    if out_channels >= 256:
        return 0x3E, 0xFFFFAAAA, 0x7FFFFFFF
    if out_channels >= 160:
        return 0x06, 0x0000007E, 0
    return 0x3F, 0xFFFFFFFE, 0xFFFFFFFF


def sram(layer: Layer, chip: Chip, cut: Tiles, cache_bytes: int, xy_size: int, planes: int) -> Sram:
    """Return the caching decisions; `cache_bytes` is what the coefficients take.

    xy_size and planes are the instruction's kernel_xy_size and kernel_z_size.
    """
    size = chip.on_chip_sram_size
    image = 0
    if cut.superblocks != 1:
        window = (cut.x % 128 + xy_size - 1) * (cut.y % 128 + xy_size - 1)
        image = align(align(window, 16) * planes, 128)
    pattern = (0, 0, 0)
    if _SRAM_START + cache_bytes + image < size:
        mode = 1
        kernels = min(align(_SRAM_START + cache_bytes, 128), size)
        end = max(kernels, _SRAM_KERNELS_MIN_END)
    else:
        mode, pattern = 2, _pattern(layer.out_channels)
        if _SRAM_START + cache_bytes >= size:
            end, image = size, 0
        elif image > size:
            end, image = 0, 0
        else:
            end = size - image
    image_mode, start, image_end = 0, 0, _SRAM_START
    if image:
        image_mode = 1
        if image >= _SRAM_START:
            start, image_end = end, min(end + image, size)
    if chip.huffman:
        mode, image_mode = 0, image_mode * chip.image_caching
    return Sram(mode, end, image_mode, start, image_end, pattern)
