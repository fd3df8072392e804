"""From a layer to the NN instruction; addresses are left to relocations.

Ref: docs/hardware/etnaviv.md sections 3.1, 4.3, 4.4
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c
"""

from __future__ import annotations

from dataclasses import dataclass

from teflon_etnaviv import coefs_v7, coefs_v8
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.coefs_v7 import Coefficients
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.layer import Kind, Layer
from teflon_etnaviv.tiling import (
    Scale,
    Sram,
    Tiles,
    nearest_scale,
    output_scale,
    sram,
    tiles,
)

KERNEL_ADDRESS = 4 * 5
"""Byte offset of the coefficients' address (bits 0..25 hold it >> 6)."""
INPUT_ADDRESS = 4 * 6
OUTPUT_ADDRESS = 4 * 7

_FACTOR_MAX = 15
_FIRST_PIXEL = 3


@dataclass(frozen=True)
class Launch:
    """A compiled layer: the instruction without addresses, and its coefficients."""

    instruction: NNInstruction
    coefficients: Coefficients


@dataclass(frozen=True)
class _Geometry:
    """The sizes that depend on the kind of launch (table of section 4.3)."""

    x: int
    y: int
    planes: int
    kernel_x: int
    kernel_y: int


def _largest_divisor(n: int, limit: int) -> int:
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)


def fc_factors(inputs: int, limit: int = _FACTOR_MAX) -> tuple[int, int, int]:
    """Return (x, y, z): the shape that a fully connected layer's inputs are given."""
    x = _largest_divisor(inputs, limit)
    y = _largest_divisor(inputs // x, limit)
    return x, y, inputs // x // y


def _geometry(layer: Layer, *, exact: bool) -> _Geometry:
    """Return sizes as the instruction has them; Mesa swaps the kernel's axes (B6)."""
    if layer.kind is Kind.FULLY_CONNECTED:
        x, y, planes = fc_factors(layer.height)
        return _Geometry(x, y, planes, x, y)
    kernel = (layer.kernel_width, layer.kernel_height)
    return _Geometry(layer.width, layer.height, layer.planes, *(kernel if exact else kernel[::-1]))


def compile_layer(layer: Layer, chip: Chip, *, exact: bool) -> Launch:
    """Return instruction and coefficients of a layer.

    Raises FieldOverflow or EncodingError for what the hardware cannot express.
    """
    cut = tiles(layer, chip)
    encode = coefs_v8.encode if chip.huffman else coefs_v7.encode
    coefficients = encode(layer, chip, cut.superblocks, exact=exact)
    shape = _geometry(layer, exact=exact)
    memory = sram(layer, chip, cut, coefficients.cache_bytes, shape.kernel_x, shape.planes)
    scale = nearest_scale(layer.scale, chip) if exact else output_scale(layer.scale, chip)
    return Launch(_instruction(layer, chip, shape, cut, memory, scale), coefficients)


def _instruction(
    layer: Layer, chip: Chip, shape: _Geometry, cut: Tiles, memory: Sram, scale: Scale
) -> NNInstruction:
    v8 = chip.huffman
    factor = 2 if layer.first_pixel else 1
    x, y = layer.offset, layer.offset if layer.offset_y is None else layer.offset_y
    return NNInstruction(
        no_z_offset=v8,
        kernel_xy_size=shape.kernel_x,
        kernel_z_size=shape.planes,
        kernels_per_core=cut.kernels_per_core,
        pooling=_FIRST_PIXEL if layer.first_pixel else 0,
        pooling_xy_size=0 if layer.first_pixel else 1,
        in_image_x_size=shape.x,
        in_image_y_size=shape.y,
        in_image_x_offset=x & 7,
        in_image_y_offset=y & 7,
        relu=layer.relu,
        post_multiplier=scale.multiplier & 1,
        post_shift=scale.shift & 0x1F,
        no_flush=v8,
        out_image_x_size=layer.out_width * factor,
        out_image_y_size=layer.out_height * factor,
        out_image_z_size=layer.out_channels,
        in_image_x_offset_bit_3=x >> 3 & 1,
        in_image_y_offset_bit_3=y >> 3 & 1,
        out_image_tile_x_size=cut.x,
        out_image_tile_y_size=cut.y,
        image_caching_mode=memory.image_mode,
        kernel_caching_mode=memory.kernel_mode,
        kernel_pattern_msb=memory.pattern[0],
        kernel_y_size=shape.kernel_y,
        out_image_y_stride=layer.out_height,
        kernel_pattern_low=memory.pattern[1],
        kernel_pattern_high=memory.pattern[2],
        kernel_cache_end_address=memory.kernel_end,
        image_cache_start_address=memory.image_start,
        image_cache_end_address=memory.image_end,
        in_image_border_const=layer.in_zero,
        post_multiplier_1_to_6=(scale.multiplier >> 1) & 0x3F,
        post_shift_bit_5_6=scale.shift >> 5,
        in_image_x_stride=shape.x,
        in_image_y_stride=shape.y,
        out_image_x_stride=layer.out_width,
        post_multiplier_7_to_14=(scale.multiplier >> 7) & 0xFF,
        unused7_2=v8 and x < 0,
        unused7_3=v8 and y < 0,
        coef_zero_point=layer.weights.zero,
        out_zero_point=layer.out_zero,
        depthwise=v8 and layer.depthwise,
        post_multiplier_15_to_22=(scale.multiplier >> 15) & 0xFF,
    )
