# Ref: docs/hardware/rocket_vendor.md §2 (interleaved output)
# Ref: docs/hardware/rocket.md §7.1 words 4, 5 and 59 to 108 (order and values), §8.4 (stages)
"""Registers of the DPU: the cube that it makes, its stages BS, BN and EW, its output converter.

One function for each stage. An operation calls those that it uses, in this order.
"""

from __future__ import annotations

from typing import NamedTuple

from teflon_common.layout import LANES
from teflon_rocket.operations.commands import Commands, numbered
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.numbers import Clamps, Converter, Operand
from teflon_rocket.registers import DPU, DPU_RDMA

TO_MEMORY = 2
"""FEATURE_MODE_CFG.OUTPUT_MODE."""
BURST_16 = 15
"""BURST_LEN of the longest bursts."""
PIXEL_CHANNELS = 64
"""Channels of a pixel that is written by itself: a depthwise convolution's group."""

_ADD = 2  # *_ALU_ALGO
OPERAND_VALUES = numbered(DPU, "EW_OP_VALUE_", range(8))
TABLES = (
    DPU.LUT_ACCESS_CFG, DPU.LUT_ACCESS_DATA, DPU.LUT_CFG, DPU.LUT_INFO,
    DPU.LUT_LE_START, DPU.LUT_LE_END, DPU.LUT_LO_START, DPU.LUT_LO_END,
    DPU.LUT_LE_SLOPE_SCALE, DPU.LUT_LE_SLOPE_SHIFT, DPU.LUT_LO_SLOPE_SCALE, DPU.LUT_LO_SLOPE_SHIFT,
)  # fmt: skip


class Cube(NamedTuple):
    """What the DPU makes in one task: its size, and where it goes.

    `offset` is in bytes from the beginning of `feature`; rows and surfaces there lie as in the
    whole feature map. `groups`: how many groups of 8 channels the DPU writes at a time. `apart`:
    pixels from one of a row to the next where each is written by itself, else 0.
    """

    feature: Feature
    offset: int
    width: int
    height: int
    channels: int
    padded_channels: int
    groups: int
    apart: int = 0

    @property
    def surface_pixels(self) -> int:
        """Pixels of one surface of the whole feature map."""
        return self.feature.surface_bytes // LANES


def toggle_groups(c: Commands) -> None:
    """Let both register groups of the DPU and of its reader take turns."""
    for pointer in (DPU.S_POINTER, DPU_RDMA.RDMA_S_POINTER):
        c.write(pointer, POINTER_PP_EN=1, EXECUTER_PP_EN=1, POINTER_PP_MODE=1)


def cube(c: Commands, cube: Cube, bs_below: int = 0, bn_below: int = 0) -> None:
    """Say what is made, and where it goes, and how far BS and BN shift values below 0."""
    c.write(DPU.DATA_FORMAT, BS_MUL_SHIFT_VALUE_NEG=bs_below, BN_MUL_SHIFT_VALUE_NEG=bn_below)
    c.clear(DPU.OFFSET_PEND)
    c.point(DPU.DST_BASE_ADDR, cube.feature, cube.offset)
    c.write(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=cube.surface_pixels)
    c.write(DPU.DATA_CUBE_WIDTH, WIDTH=cube.width)
    c.write(DPU.DATA_CUBE_HEIGHT, HEIGHT=cube.height)
    notch = max(cube.apart - 1, 0)
    c.write(DPU.DATA_CUBE_NOTCH_ADDR, NOTCH_ADDR_0=notch, NOTCH_ADDR_1=notch)
    c.write(DPU.DATA_CUBE_CHANNEL, ORIG_CHANNEL=cube.channels, CHANNEL=cube.padded_channels)


def bias(c: Commands, clamps: Clamps) -> None:
    """BS: add the bias that the reader brings, then limit where there are limits."""
    c.write(
        DPU.BS_CFG,
        BS_ALU_ALGO=_ADD,
        BS_ALU_SRC=1,
        BS_MUL_BYPASS=1,
        BS_RELU_BYPASS=int(not clamps.relu),
        BS_RELUX_EN=int(clamps.ceiling is not None),
    )
    c.clear(DPU.BS_ALU_CFG, DPU.BS_MUL_CFG)
    c.write(DPU.BS_RELUX_CMP_VALUE, BS_RELUX_CMP_DAT=clamps.ceiling or 0)


def compensation(c: Commands, cube: Cube, factor: int | None) -> None:
    """Add `factor` times the sum of the window's inputs: so the weights get their zero point. None:
    the reader brings a factor for each channel.
    """
    groups, streamed = cube.groups, int(factor is None)
    c.write(DPU.BS_OW_CFG, OW_SRC=streamed, SIZE_E_0=groups, SIZE_E_1=groups, SIZE_E_2=groups)
    c.write(DPU.BS_OW_OP, OW_OP=factor or 0)


def write_size(c: Commands, cube: Cube) -> None:
    """Tell the write DMA the size of the cube; single pixels count as channels."""
    width, channels = cube.width, cube.padded_channels
    if cube.apart:
        width, channels = 1, cube.width * PIXEL_CHANNELS
    c.write(DPU.WDMA_SIZE_0, CHANNEL_WDMA=channels)
    c.write(DPU.WDMA_SIZE_1, WIDTH_WDMA=width, HEIGHT_WDMA=cube.height)


def shift_origin(c: Commands, shift: int) -> None:
    """BN: add one number to all channels; 0 leaves the stage out."""
    if shift:
        c.write(DPU.BN_CFG, BN_ALU_ALGO=_ADD, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1)
    else:
        c.write(DPU.BN_CFG, BN_BYPASS=1, BN_ALU_BYPASS=1, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1)
    c.write(DPU.BN_ALU_CFG, BN_ALU_OPERAND=shift)
    c.clear(DPU.BN_MUL_CFG, DPU.BN_RELUX_CMP_VALUE)


def no_operand(c: Commands) -> None:
    """EW: leave the stage out."""
    c.write(
        DPU.EW_CFG,
        EW_BYPASS=1,
        EW_OP_BYPASS=1,
        EW_LUT_BYPASS=1,
        EW_OP_CVT_BYPASS=1,
        EW_RELU_BYPASS=1,
    )
    c.clear(DPU.EW_CVT_OFFSET_VALUE)
    c.write(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=1)
    c.clear(DPU.EW_RELUX_CMP_VALUE)


def add_operand(c: Commands, operand: Operand, clamps: Clamps) -> None:
    """EW: add a feature map that the reader brings, or take the larger of both; then limit where
    there are limits.
    """
    converter, (operation, algorithm) = operand.converter, operand.kind.value
    c.write(
        DPU.EW_CFG,
        EW_OP_TYPE=operation,
        EW_OP_SRC=1,
        EW_LUT_BYPASS=1,
        EW_RELU_BYPASS=int(not clamps.late_relu),
        EW_RELUX_EN=int(clamps.late_ceiling is not None),
        EW_ALU_ALGO=algorithm,
        EDATA_SIZE=1,
        EW_DATA_MODE=1,
        EW_CVT_TYPE=1,
    )
    c.write(DPU.EW_CVT_OFFSET_VALUE, EW_OP_CVT_OFFSET=converter.offset)
    c.write(
        DPU.EW_CVT_SCALE_VALUE,
        EW_OP_CVT_SCALE=converter.scale & 0xFFFF,
        EW_OP_CVT_SHIFT=converter.shift,
    )
    c.write(DPU.EW_RELUX_CMP_VALUE, EW_RELUX_CMP_DAT=clamps.late_ceiling or 0)


def convert(c: Commands, converter: Converter) -> None:
    """Take accumulator units to the output's steps."""
    c.write(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=converter.offset)
    c.write(DPU.OUT_CVT_SCALE, OUT_CVT_SCALE=converter.scale)
    c.write(DPU.OUT_CVT_SHIFT, OUT_CVT_SHIFT=converter.shift)


def finish(c: Commands, cube: Cube) -> None:
    """Say how far apart the groups of channels are that the DPU writes, or rows of single pixels;
    use no lookup tables.
    """
    c.clear(*OPERAND_VALUES)
    added = cube.feature.shape[2] if cube.apart else cube.surface_pixels * cube.groups
    c.write(DPU.SURFACE_ADD, SURF_ADD=added)
    c.clear(DPU.UNKNOWN_40C4, *TABLES)
