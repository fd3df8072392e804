# Ref: docs/hardware/rocket.md §7.1 words 109 to 125 (order and values), §8.5
# Ref: docs/hardware/rocket_vendor.md §0.1, §1 (operand streams)
"""Registers of the DPU's reader: the size of the cube, operands per channel, feature maps.

One function for each part. An operation calls those that it uses, in this order.
"""

from __future__ import annotations

from typing import NamedTuple

from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.dpu import Cube
from teflon_rocket.registers import DPU_RDMA

COMB_ONE_MAP = 5
"""RDMA_FEATURE_MODE_CFG.COMB_USE: MRDMA and ERDMA read the surfaces of one feature map in turn."""

_BIAS = 1
"""BRDMA_DATA_USE of a bias for each channel and nothing else."""
_BIAS_ZERO_FACTOR = 7
"""BRDMA_DATA_USE of a bias, a zero point of the weights and a factor for each channel."""
_FACTOR = 4
"""NRDMA_DATA_USE of a factor for each channel."""


class Surfaces(NamedTuple):
    """A feature map that MRDMA and ERDMA read in turn: even surfaces the one, odd ones the other.

    offset: bytes to the first pixel that is read. second: bytes to the same pixel of the next
    surface. stride: pixels from one surface to the next. notch: pixels from the end of what a
    reader takes from one surface to the beginning of its next one.
    """

    feature: Feature | Constant
    offset: int
    second: int
    stride: int
    notch: int


def size(c: Commands, cube: Cube) -> None:
    """Say how large the cube is that the DPU makes."""
    c.write(DPU_RDMA.RDMA_DATA_CUBE_WIDTH, WIDTH=cube.width)
    c.write(DPU_RDMA.RDMA_DATA_CUBE_HEIGHT, HEIGHT=cube.height)
    c.write(DPU_RDMA.RDMA_DATA_CUBE_CHANNEL, CHANNEL=cube.padded_channels)


def main(c: Commands, feature: Feature | Constant | None, offset: int = 0) -> None:
    """Say where MRDMA begins, `offset` bytes from the beginning of a feature map; or nowhere."""
    if feature is None:
        c.clear(DPU_RDMA.RDMA_SRC_BASE_ADDR)
    else:
        c.point(DPU_RDMA.RDMA_SRC_BASE_ADDR, feature, offset)


def biases(c: Commands, constant: Constant) -> None:
    """Read a bias for each channel for BS, and nothing for BN."""
    c.write(DPU_RDMA.RDMA_BRDMA_CFG, BRDMA_DATA_USE=_BIAS)
    c.point(DPU_RDMA.RDMA_BS_BASE_ADDR, constant)
    c.clear(DPU_RDMA.RDMA_NRDMA_CFG, DPU_RDMA.RDMA_BN_BASE_ADDR)


def channels(c: Commands, operands: Constant, factors: Constant | None) -> None:
    """Read bias, zero point and factor of each channel for BS, and a factor for BN if there is."""
    c.write(DPU_RDMA.RDMA_BRDMA_CFG, BRDMA_DATA_USE=_BIAS_ZERO_FACTOR)
    c.point(DPU_RDMA.RDMA_BS_BASE_ADDR, operands)
    if factors is None:
        c.clear(DPU_RDMA.RDMA_NRDMA_CFG, DPU_RDMA.RDMA_BN_BASE_ADDR)
    else:
        c.write(DPU_RDMA.RDMA_NRDMA_CFG, NRDMA_DATA_USE=_FACTOR)
        c.point(DPU_RDMA.RDMA_BN_BASE_ADDR, factors)


def elementwise(c: Commands, surfaces: Surfaces | None) -> None:
    """Say where ERDMA begins: 8-bit operands for each pixel and channel, or none."""
    if surfaces is None:
        c.write(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DISABLE=1)
        c.clear(DPU_RDMA.RDMA_EW_BASE_ADDR, DPU_RDMA.RDMA_EW_SURF_STRIDE)
        return
    c.write(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_SIZE=1, ERDMA_DATA_MODE=1)
    c.point(DPU_RDMA.RDMA_EW_BASE_ADDR, surfaces.feature, surfaces.second)
    c.write(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=surfaces.stride)


def notches(c: Commands, surfaces: Surfaces | None) -> None:
    """Say how MRDMA and ERDMA reach their next surfaces; all readers get the same share."""
    notch = 0 if surfaces is None else surfaces.notch
    c.clear(DPU_RDMA.RDMA_SRC_DMA_CFG)
    c.write(DPU_RDMA.RDMA_SURF_NOTCH, SURF_NOTCH_ADDR=notch)
    c.clear(DPU_RDMA.RDMA_PAD_CFG)
    c.write(DPU_RDMA.RDMA_WEIGHT, M_WEIGHT=1, B_WEIGHT=1, N_WEIGHT=1, E_WEIGHT=1)
    c.write(DPU_RDMA.RDMA_EW_SURF_NOTCH, EW_SURF_NOTCH=notch)
