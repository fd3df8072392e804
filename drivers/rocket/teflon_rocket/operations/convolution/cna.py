# Ref: docs/hardware/rocket_vendor.md finding 9 (dilation, deconvolution)
# Ref: docs/hardware/rocket.md §7.1 words 0 to 58 (order and values), §7.3 (input converter)
# Ref: Mesa, src/gallium/drivers/rocket/rkt_regcmd.c (same order of registers)
"""Registers of the CNA and the CORE: what is fetched, converted, multiplied and summed."""

from __future__ import annotations

from typing import NamedTuple

from teflon_rocket.operations import dpu
from teflon_rocket.operations.commands import Commands, numbered
from teflon_rocket.operations.convolution.geometry import Geometry
from teflon_rocket.operations.convolution.tiles import Split, Tile
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.registers import CNA, CORE

DIRECT, DEPTHWISE = 0, 3
"""CONV_MODE."""

_ONE_CHANNEL = 8  # ARGB_IN
_ALL_CHANNELS = 0xFFFF  # PER_CHANNEL_CVT_EN
_GRAINS = 50  # FEATURE_GRAINS = 50 + stride + 1: what Mesa writes; other values were not seen
_MOST_STRIDE = 7  # CONV_X_STRIDE and CONV_Y_STRIDE have 3 bits
_AMOUNTS = numbered(CNA, "DCOMP_AMOUNT", range(16))
_CONVERTERS = numbered(CNA, "CVT_CON", range(1, 5))


class Fetch(NamedTuple):
    """What the CNA fetches in one task, and how it converts and pads it.

    pad: PAD_VALUE, 32 bits. converter: used where the geometry says that the CNA converts.
    """

    geometry: Geometry
    split: Split
    task: int
    input: Feature
    weights: Constant
    pad: int
    converter: Converter

    @property
    def tile(self) -> Tile:
        return self.split.tiles[self.task]


def cna(c: Commands, f: Fetch) -> None:
    """Write the registers of the CNA, and of the DPU those that stand between them."""
    geometry, tile = f.geometry, f.tile
    _banks(c, f)
    c.clear(CNA.DCOMP_REGNUM, CNA.DCOMP_CTRL)
    _mode(c, f)
    dpu.toggle_groups(c)
    _mode(c, f)
    c.write(CNA.CONV_CON2, FEATURE_GRAINS=_GRAINS + geometry.stride[1] + 1)
    c.write(
        CNA.CONV_CON3,
        CONV_X_STRIDE=_stride(geometry.stride[0], tile.out_columns),
        CONV_Y_STRIDE=_stride(geometry.stride[1], tile.out_rows),
        DECONV_X_STRIDE=geometry.spread[0] - 1,
        DECONV_Y_STRIDE=geometry.spread[1] - 1,
        ATROUS_X_DILATION=geometry.dilation[0],
        ATROUS_Y_DILATION=geometry.dilation[1],
    )
    _sizes(c, geometry, tile)
    _banks(c, f)
    c.write(CNA.CBUF_CON1, DATA_ENTRIES=geometry.entries(tile.columns))
    _converter(c, f)
    c.clear(CNA.FC_CON0, CNA.FC_CON1)
    c.write(CNA.PAD_CON0, PAD_LEFT=tile.pad_left, PAD_TOP=tile.pad_top)
    _dma(c, f)
    c.write(CNA.CVT_CON5, PER_CHANNEL_CVT_EN=_ALL_CHANNELS if geometry.converts else 0)
    c.write(CNA.PAD_CON1, PAD_VALUE=f.pad & 0xFFFFFFFF)


def core(c: Commands, geometry: Geometry, tile: Tile, truncate: int) -> None:
    """Write the registers of the CORE; `truncate` low bits of the accumulator are dropped."""
    c.write(CORE.MISC_CFG, QD_EN=1, DW_EN=int(geometry.depthwise))
    c.write(CORE.DATAOUT_SIZE_0, DATAOUT_WIDTH=tile.out_columns, DATAOUT_HEIGHT=tile.out_rows)
    c.write(CORE.DATAOUT_SIZE_1, DATAOUT_CHANNEL=geometry.padded_out_channels)
    c.write(CORE.CLIP_TRUNCATE, CLIP_TRUNCATE=truncate)
    c.clear(CORE.UNKNOWN_3030)


def mode(geometry: Geometry) -> int:
    """Return CONV_MODE; it stands in registers of several units."""
    return DEPTHWISE if geometry.depthwise else DIRECT


def _stride(step: int, outputs: int) -> int:
    """Return the stride to write: any is right where there is one output."""
    return 1 if outputs == 1 and step > _MOST_STRIDE else step


def _banks(c: Commands, f: Fetch) -> None:
    c.write(
        CNA.CBUF_CON0,
        DATA_BANK=f.split.data_banks,
        WEIGHT_BANK=f.split.weight_banks,
        WEIGHT_REUSE=int(f.task > 0 and f.split.reuse),
    )


def _mode(c: Commands, f: Fetch) -> None:
    geometry = f.geometry
    if geometry.converts:
        c.write(
            CNA.CONV_CON1,
            CONV_MODE=mode(geometry),
            ARGB_IN=_ONE_CHANNEL,
            GROUP_LINE_OFF=1,
            NONALIGN_DMA=1,
        )
    else:
        c.write(
            CNA.CONV_CON1,
            CONV_MODE=mode(geometry),
            DECONV=int(geometry.deconvolution),
            GROUP_LINE_OFF=int(geometry.is_part(f.tile.columns)),
        )


def _sizes(c: Commands, geometry: Geometry, tile: Tile) -> None:
    channels, padded = geometry.channels, geometry.padded_channels
    width, height = geometry.kernel
    c.write(
        CNA.DATA_SIZE0,
        DATAIN_WIDTH=geometry.fetched_width(tile.columns),
        DATAIN_HEIGHT=tile.rows,
    )
    c.write(CNA.DATA_SIZE1, DATAIN_CHANNEL_REAL=channels, DATAIN_CHANNEL=padded)
    c.write(CNA.DATA_SIZE2, DATAOUT_WIDTH=tile.out_columns)
    c.write(CNA.DATA_SIZE3, DATAOUT_ATOMICS=tile.out_columns * tile.out_rows)
    c.write(CNA.WEIGHT_SIZE0, WEIGHT_BYTES=geometry.weight_bytes)
    c.write(CNA.WEIGHT_SIZE1, WEIGHT_BYTES_PER_KERNEL=geometry.kernel_bytes)
    c.write(
        CNA.WEIGHT_SIZE2, WEIGHT_WIDTH=width, WEIGHT_HEIGHT=height, WEIGHT_KERNELS=geometry.kernels
    )


def _converter(c: Commands, f: Fetch) -> None:
    if f.geometry.converts:
        shift, scale, offset = f.converter.shift, f.converter.scale, f.converter.offset
        c.write(CNA.CVT_CON0, **{f"CVT_TRUNCATE_{n}": shift for n in range(4)})
    else:
        scale, offset = 1, 0
        c.write(CNA.CVT_CON0, CVT_BYPASS=1, CVT_TYPE=1, DATA_SIGN=1)
    for n, register in enumerate(_CONVERTERS):
        c.write(register, **{f"CVT_SCALE{n}": scale, f"CVT_OFFSET{n}": offset})


def _dma(c: Commands, f: Fetch) -> None:
    geometry, tile = f.geometry, f.tile
    line, surface = geometry.strides(f.input.surface_pixels, tile.columns)
    start = tile.image * f.input.image_bytes + geometry.input_offset(tile)
    c.point(CNA.FEATURE_DATA_ADDR, f.input, start)
    c.clear(CNA.FC_CON2)
    c.write(CNA.DMA_CON0, DATA_BURST_LEN=dpu.BURST_16, WEIGHT_BURST_LEN=dpu.BURST_16)
    c.write(CNA.DMA_CON1, LINE_STRIDE=line)
    c.write(CNA.DMA_CON2, SURF_STRIDE=surface)
    c.write(CNA.FC_DATA_SIZE0, DMA_WIDTH=tile.columns, DMA_HEIGHT=tile.rows)
    c.write(CNA.FC_DATA_SIZE1, DMA_CHANNEL=geometry.padded_channels)
    c.clear(CNA.DCOMP_CTRL, CNA.DCOMP_REGNUM)
    c.point(CNA.DCOMP_ADDR0, f.weights)
    c.clear(*_AMOUNTS)
