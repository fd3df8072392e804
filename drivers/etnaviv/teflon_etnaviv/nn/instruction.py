"""From a layer to the NN instruction; addresses are left to relocations.

Ref: docs/hardware/etnaviv.md sections 3.1, 4.3, 4.4
Ref: docs/hardware/etnaviv_vendor.md, engine chosen by the vendor (the output stage's 2x2/2 pooling)
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c
"""

from __future__ import annotations

from dataclasses import dataclass

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import NNInstruction
from teflon_etnaviv.nn import coefs_v7, coefs_v8
from teflon_etnaviv.nn.coding import Coefficients, LayerCoding, Scale
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.nn.tiling import Sram, Tiles, sram, tiles

_LARGEST, _FIRST_PIXEL = 1, 3


@dataclass(frozen=True)
class CompiledLayer:
    """A layer's instruction, without addresses, and its coefficients."""

    instruction: NNInstruction
    coefficients: Coefficients


@dataclass(frozen=True)
class _Geometry:
    """The sizes of input and kernel as the instruction has them."""

    x: int
    y: int
    planes: int
    kernel_x: int
    kernel_y: int


def _geometry(layer: Layer, coding: LayerCoding) -> _Geometry:
    if layer.folded:
        x, y, planes = layer.folded
        return _Geometry(x, y, planes, x, y)
    return _Geometry(layer.width, layer.height, layer.planes, *coding.kernel_axes(layer))


def compile_layer(layer: Layer, chip: Chip, coding: LayerCoding) -> CompiledLayer:
    """Return instruction and coefficients of a layer.

    Raises FieldOverflow or EncodingError for what the hardware cannot express.
    """
    cut = tiles(layer, chip)
    encode = coefs_v8.encode if chip.huffman else coefs_v7.encode
    coefficients = encode(layer, chip, cut.superblocks, coding)
    shape = _geometry(layer, coding)
    memory = sram(layer, chip, cut, coefficients.cache_bytes, shape.kernel_x, shape.planes)
    scale = coding.scale(layer.scale, chip)
    return CompiledLayer(_instruction(layer, chip, shape, cut, memory, scale), coefficients)


def _instruction(
    layer: Layer, chip: Chip, shape: _Geometry, cut: Tiles, memory: Sram, scale: Scale
) -> NNInstruction:
    v8 = chip.huffman
    factor = 2 if layer.halves else 1
    pooling = _FIRST_PIXEL if layer.first_pixel else _LARGEST if layer.largest else 0
    return NNInstruction(
        no_z_offset=v8,
        no_flush=v8,
        depthwise=v8 and layer.depthwise,
        kernel_xy_size=shape.kernel_x,
        kernel_y_size=shape.kernel_y,
        kernel_z_size=shape.planes,
        kernels_per_core=cut.kernels_per_core,
        pooling=pooling,
        pooling_xy_size=0 if pooling else 1,
        in_image_x_size=shape.x,
        in_image_y_size=shape.y,
        in_image_x_stride=shape.x,
        in_image_y_stride=shape.y,
        in_image_border_const=layer.in_zero,
        relu=layer.relu,
        out_image_x_size=layer.out_width * factor,
        out_image_y_size=layer.out_height * factor,
        out_image_z_size=layer.out_channels,
        out_image_x_stride=layer.out_width,
        out_image_y_stride=layer.out_height,
        out_image_tile_x_size=cut.x,
        out_image_tile_y_size=cut.y,
        coef_zero_point=layer.weights.zero,
        out_zero_point=layer.out_zero,
        **_offset_fields(layer, chip),
        **_scale_fields(scale),
        **_cache_fields(memory),
    )


def _offset_fields(layer: Layer, chip: Chip) -> dict[str, int]:
    """Return the fields over which the signed offsets of the first tap are spread."""
    x, y = layer.offset, layer.offset if layer.offset_y is None else layer.offset_y
    return {
        "in_image_x_offset": x & 7,
        "in_image_y_offset": y & 7,
        "in_image_x_offset_bit_3": x >> 3 & 1,
        "in_image_y_offset_bit_3": y >> 3 & 1,
        "unused7_2": chip.huffman and x < 0,
        "unused7_3": chip.huffman and y < 0,
    }


def _scale_fields(scale: Scale) -> dict[str, int]:
    """Return the fields over which multiplier and shift are spread."""
    return {
        "post_multiplier": scale.multiplier & 1,
        "post_multiplier_1_to_6": (scale.multiplier >> 1) & 0x3F,
        "post_multiplier_7_to_14": (scale.multiplier >> 7) & 0xFF,
        "post_multiplier_15_to_22": (scale.multiplier >> 15) & 0xFF,
        "post_shift": scale.shift & 0x1F,
        "post_shift_bit_5_6": scale.shift >> 5,
    }


def _cache_fields(memory: Sram) -> dict[str, int]:
    """Return the fields about the on-chip SRAM."""
    return {
        "image_caching_mode": memory.image_mode,
        "image_cache_start_address": memory.image_start,
        "image_cache_end_address": memory.image_end,
        "kernel_caching_mode": memory.kernel_mode,
        "kernel_cache_end_address": memory.kernel_end,
        "kernel_pattern_msb": memory.pattern[0],
        "kernel_pattern_low": memory.pattern[1],
        "kernel_pattern_high": memory.pattern[2],
    }
