# Ref: docs/hardware/rocket_vendor.md §0 finding 8 (precision), finding 13 (surfaces), §2
"""PPU_RDMA: reads the feature map that is pooled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.registers import PPU_RDMA

from ..cube import ATOM, aligned
from ..registerfile import Fields, RegisterFile

FIELDS: Fields = {
    PPU_RDMA.RDMA_S_POINTER: "POINTER_PP_EN EXECUTER_PP_EN POINTER_PP_MODE",
    PPU_RDMA.RDMA_CUBE_IN_WIDTH: "CUBE_IN_WIDTH",
    PPU_RDMA.RDMA_CUBE_IN_HEIGHT: "CUBE_IN_HEIGHT",
    PPU_RDMA.RDMA_CUBE_IN_CHANNEL: "CUBE_IN_CHANNEL",
    PPU_RDMA.RDMA_SRC_BASE_ADDR: "SRC_BASE_ADDR",
    PPU_RDMA.RDMA_SRC_LINE_STRIDE: "SRC_LINE_STRIDE",
    PPU_RDMA.RDMA_SRC_SURF_STRIDE: "SRC_SURF_STRIDE",
    PPU_RDMA.RDMA_DATA_FORMAT: "IN_PRECISION",
}

_EIGHT_BIT = 1
_BURST = 64
"""Surfaces of maps larger than one pixel begin at multiples of so many bytes."""


@dataclass(frozen=True)
class Source:
    """The feature map in memory, as far as one task reads it."""

    address: int
    surfaces: int
    height: int
    width: int
    line_bytes: int
    surface_bytes: int

    def fetch(self, memory: DeviceMemory) -> NDArray[np.int8]:
        """Return it as int8 [surface, row, column, 16], a view of memory."""
        return memory.strided(
            self.address,
            (self.surfaces, self.height, self.width, ATOM),
            (self.surface_bytes, self.line_bytes, ATOM, 1),
            np.int8,
            PPU_RDMA.RDMA_SRC_BASE_ADDR.title(),
        )


def plan(registers: RegisterFile) -> Source:
    """Read the reader's registers; raises SimulatorFault."""
    precision = registers[PPU_RDMA.RDMA_DATA_FORMAT].IN_PRECISION
    if precision != _EIGHT_BIT:
        raise SimulatorFault(
            f"PPU_RDMA.RDMA_DATA_FORMAT: IN_PRECISION is {precision}, must be 1 (8 bit; 0 is 4 bit,"
            " others are not modelled)"
        )
    address = registers[PPU_RDMA.RDMA_SRC_BASE_ADDR].SRC_BASE_ADDR
    aligned(address, PPU_RDMA.RDMA_SRC_BASE_ADDR.title())
    channels = registers[PPU_RDMA.RDMA_CUBE_IN_CHANNEL].CUBE_IN_CHANNEL
    if channels % ATOM:
        raise SimulatorFault(
            f"PPU_RDMA.RDMA_CUBE_IN_CHANNEL: {channels} channels, must be a multiple of {ATOM}"
        )
    source = Source(
        address,
        channels // ATOM,
        registers[PPU_RDMA.RDMA_CUBE_IN_HEIGHT].CUBE_IN_HEIGHT,
        registers[PPU_RDMA.RDMA_CUBE_IN_WIDTH].CUBE_IN_WIDTH,
        registers[PPU_RDMA.RDMA_SRC_LINE_STRIDE].SRC_LINE_STRIDE * ATOM,
        registers[PPU_RDMA.RDMA_SRC_SURF_STRIDE].SRC_SURF_STRIDE * ATOM,
    )
    _check_strides(source)
    return source


def _check_strides(source: Source) -> None:
    line = source.width * ATOM
    if source.line_bytes < line:
        raise SimulatorFault(
            f"PPU_RDMA.RDMA_SRC_LINE_STRIDE: is {source.line_bytes} bytes, must hold the row of"
            f" {line}"
        )
    need = (source.height - 1) * source.line_bytes + line
    if source.surface_bytes < need:
        raise SimulatorFault(
            f"PPU_RDMA.RDMA_SRC_SURF_STRIDE: is {source.surface_bytes} bytes, must hold the rows"
            f" of {need}"
        )
    check_surface(PPU_RDMA.RDMA_SRC_SURF_STRIDE.title(), source.surface_bytes)


def check_surface(name: str, size: int) -> None:
    """Raise SimulatorFault unless surfaces are whole 64 bytes, or those of one pixel."""
    if size % _BURST and size != ATOM:
        raise SimulatorFault(
            f"{name}: is {size} bytes, must be a multiple of {_BURST}, or {ATOM} for a map of one"
            " pixel (no list has others)"
        )
