# Ref: docs/hardware/rocket_vendor.md §0 (10, 11, 13), §2 (elementwise, copy pass address rules,
# Ref: resize nearest, transpose W<->H)
"""DPU_RDMA of a pass: which pixels MRDMA and ERDMA read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.registers import DPU_RDMA

from .. import rdma
from ..cube import ATOM, aligned
from ..policy import Breach, Findings
from ..registerfile import Fields, RegisterFile, signed

FIELDS: Fields = {
    **rdma.FIELDS,
    DPU_RDMA.RDMA_DATA_CUBE_HEIGHT: "HEIGHT EW_LINE_NOTCH_ADDR",
    DPU_RDMA.RDMA_FEATURE_MODE_CFG: "FLYING_MODE BURST_LEN IN_PRECISION PROC_PRECISION",
    DPU_RDMA.RDMA_SRC_DMA_CFG: "KERNEL_WIDTH KERNEL_HEIGHT KERNEL_STRIDE_WIDTH"
    " KERNEL_STRIDE_HEIGHT UNPOOLING_EN LINE_NOTCH_ADDR",
}

_NOTCH_BITS = 28
_WHOLE = 64
"""Surfaces that a pass reads are multiples of it, in bytes, unless they have one pixel."""
_EIGHT_BITS = 1
"""ERDMA_DATA_SIZE."""


@dataclass(frozen=True)
class Source:
    """What a reader reads: an address, and bytes from a surface, row and pixel to the next."""

    address: int
    surface_bytes: int
    row_bytes: int
    pixel_bytes: int
    name: str

    def view(
        self, memory: DeviceMemory, surfaces: int, height: int, width: int
    ) -> NDArray[np.int8]:
        """Return int8 [surface, row, column, 16]: a view of memory."""
        return memory.strided(
            self.address,
            (surfaces, height, width, ATOM),
            (self.surface_bytes, self.row_bytes, self.pixel_bytes, 1),
            np.int8,
            self.name,
        )


@dataclass(frozen=True)
class ReadTask:
    """What the readers do: sizes as in memory; `repeat`: times a pixel comes, along both axes."""

    width: int
    height: int
    surfaces: int
    main: Source
    operand: Source | None
    repeat: int


def plan(registers: RegisterFile, findings: Findings, lanes: int) -> ReadTask:
    """Return what the readers do; a pixel of a surface has `lanes` elements."""
    mode, cube = registers[DPU_RDMA.RDMA_FEATURE_MODE_CFG], registers
    width = cube[DPU_RDMA.RDMA_DATA_CUBE_WIDTH].WIDTH
    height = cube[DPU_RDMA.RDMA_DATA_CUBE_HEIGHT].HEIGHT
    channels = cube[DPU_RDMA.RDMA_DATA_CUBE_CHANNEL].CHANNEL
    if not mode.FLYING_MODE:
        raise SimulatorFault(f"{mode}: FLYING_MODE must be 1 in a pass (it has nothing to read)")
    if channels % lanes:
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_DATA_CUBE_CHANNEL: CHANNEL is {channels}, must be a multiple of {lanes}"
        )
    surfaces = channels // lanes
    line = registers[DPU_RDMA.RDMA_SRC_DMA_CFG].LINE_NOTCH_ADDR
    notch = signed(registers[DPU_RDMA.RDMA_SURF_NOTCH].SURF_NOTCH_ADDR, _NOTCH_BITS)
    address = registers[DPU_RDMA.RDMA_SRC_BASE_ADDR].SRC_BASE_ADDR
    main = _source(address, (width, height), line, notch, "DPU_RDMA.RDMA_SRC_BASE_ADDR")
    _check_pitch(main, surfaces, "RDMA_SURF_NOTCH", findings)
    operand = _operand(registers, width, height)
    if operand is not None and operand.pixel_bytes:
        _check_pitch(operand, surfaces, "RDMA_EW_SURF_NOTCH", findings)
    return ReadTask(width, height, surfaces, main, operand, _repeat(registers))


def _source(address: int, size: tuple[int, int], line: int, notch: int, name: str) -> Source:
    aligned(address, name)
    width, height = size
    pixels = width * height + (height - 1) * line + notch
    return Source(address, pixels * ATOM, (width + line) * ATOM, ATOM, name)


def _check_pitch(source: Source, surfaces: int, register: str, findings: Findings) -> None:
    """Note surfaces that are not apart by whole 64 bytes, nor by one pixel."""
    if surfaces > 1 and source.surface_bytes % _WHOLE and source.surface_bytes != ATOM:
        findings.breach(
            Breach.SURFACE_PITCH,
            f"DPU_RDMA.{register}: surfaces are read {source.surface_bytes} bytes apart, must be a"
            f" multiple of {_WHOLE}, or {ATOM} (one pixel)",
        )


def _operand(registers: RegisterFile, width: int, height: int) -> Source | None:
    """Return what ERDMA reads: a map as large as the main one, or one pixel for all."""
    reader, name = registers[DPU_RDMA.RDMA_ERDMA_CFG], "DPU_RDMA.RDMA_EW_BASE_ADDR"
    address = registers[DPU_RDMA.RDMA_EW_BASE_ADDR].EW_BASE_ADDR
    stride = registers[DPU_RDMA.RDMA_EW_SURF_STRIDE].EW_SURF_STRIDE
    notch = signed(registers[DPU_RDMA.RDMA_EW_SURF_NOTCH].EW_SURF_NOTCH, _NOTCH_BITS)
    line = registers[DPU_RDMA.RDMA_DATA_CUBE_HEIGHT].EW_LINE_NOTCH_ADDR
    if reader.ERDMA_DISABLE:
        return None
    if reader.ERDMA_DATA_SIZE != _EIGHT_BITS or reader.ERDMA_DATA_MODE > 1:
        raise SimulatorFault(
            f"{reader}: only 8-bit operands are modelled, must be ERDMA_DATA_SIZE=1 and"
            " ERDMA_DATA_MODE 0 or 1"
        )
    if not reader.ERDMA_DATA_MODE:
        if (stride, notch, line) != (1, 0, 0):
            raise SimulatorFault(
                f"DPU_RDMA.RDMA_EW_SURF_STRIDE: is {stride}, with notches {notch} and {line}, must"
                " be 1, 0 and 0 for an operand per channel"
            )
        aligned(address, name)
        return Source(address, ATOM, 0, 0, name)
    source = _source(address, (width, height), line, notch, name)
    if source.surface_bytes != stride * ATOM:
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_EW_SURF_STRIDE: is {stride} pixels, must be the"
            f" {source.surface_bytes // ATOM} of what is read of a surface and EW_SURF_NOTCH"
        )
    return source


def _repeat(registers: RegisterFile) -> int:
    """Return how often a pixel comes along each axis: un-pooling with equal sizes and strides."""
    config = registers[DPU_RDMA.RDMA_SRC_DMA_CFG]
    sizes = {
        config.KERNEL_WIDTH,
        config.KERNEL_HEIGHT,
        config.KERNEL_STRIDE_WIDTH,
        config.KERNEL_STRIDE_HEIGHT,
    }
    times = config.KERNEL_WIDTH
    if len(sizes) > 1 or bool(config.UNPOOLING_EN) != (times > 1):
        raise SimulatorFault(
            f"{config}: sizes and strides must be equal, and above 1 exactly with UNPOOLING_EN"
            " (others are not modelled)"
        )
    return times
