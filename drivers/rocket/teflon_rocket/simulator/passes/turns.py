# Ref: docs/hardware/rocket_vendor.md §2 (passes that turn)
"""Passes of 16-bit elements that turn a map on its way: rows against columns, or the sixteen bytes
of pixels against the pixels.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_rocket.registers import DPU

from .. import dpu
from ..cube import ATOM
from ..dpu import Write
from ..registerfile import RegisterFile
from .reader import ReadTask

HALF = 8
"""Planes between which WDMA's rows lie; a pixel's bytes are two halves."""


class Turn(enum.Enum):
    """What is turned; the value says which bits ask for it."""

    PIXELS = "TP_EN and TP_PRECISION"
    BYTES = "TP_ORG_EN"


def turn_of(registers: RegisterFile) -> Turn | None:
    """Return what a pass turns, or None. Raises SimulatorFault for a mixture."""
    mode, wide = registers[DPU.FEATURE_MODE_CFG], registers[DPU.WDMA_SIZE_0]
    asked = mode.TP_EN, wide.TP_PRECISION, registers[DPU.BS_OW_CFG].TP_ORG_EN
    if asked not in {(0, 0, 0), (1, 1, 0), (0, 0, 1)}:
        raise SimulatorFault(
            f"{mode}: with {wide} and {registers[DPU.BS_OW_CFG]}, must have TP_EN and TP_PRECISION,"
            " or TP_ORG_EN alone (others are not modelled)"
        )
    if not any(asked):
        return None
    return Turn.PIXELS if mode.TP_EN else Turn.BYTES


def size(turn: Turn, read: ReadTask) -> tuple[int, int, int]:
    """Return surfaces, rows and columns of atoms as they are written.

    Raises SimulatorFault for bytes of pixels that no vendor list turns.
    """
    pixels = read.width * read.height
    if turn is Turn.PIXELS:
        return read.surfaces, read.height, read.width
    if pixels % ATOM or (read.surfaces > 1 and pixels != ATOM):
        raise SimulatorFault(
            f"DPU_RDMA.RDMA_DATA_CUBE_WIDTH: turns {read.surfaces} surfaces of {pixels} pixels,"
            f" must be one surface of a multiple of {ATOM}, or {ATOM} pixels (others are not"
            " modelled)"
        )
    return read.surfaces * pixels // ATOM, ATOM // HALF, HALF


def write(registers: RegisterFile, turn: Turn, address: int) -> Write:
    """Return where surfaces, rows and columns of `size` go."""
    step = registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE * ATOM
    surface = registers[DPU.SURFACE_ADD].SURF_ADD * ATOM
    if turn is Turn.PIXELS:
        return Write(address, surface, ATOM, step)
    return Write(address, surface, (1 + dpu.notch(registers)) * ATOM, step)


def check(registers: RegisterFile, turn: Turn, read: ReadTask) -> None:
    """Raise SimulatorFault unless sizes and steps are those of the vendor's lists."""
    surfaces, rows, columns = size(turn, read)
    step, cube = registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE, registers[DPU.DATA_CUBE_CHANNEL]
    channels = HALF * read.surfaces  # of 16 bits
    if turn is Turn.PIXELS:
        wdma, length, parts = (rows, surfaces), 0, 0
        skipped, added, elements = columns * step - rows, columns * step, read.width
    else:
        wdma, length, parts = (1, rows), surfaces * ATOM, surfaces - 1
        skipped, added, elements = HALF * step - 1, registers[DPU.SURFACE_ADD].SURF_ADD, HALF
    config = registers[DPU.BS_OW_CFG]
    for name, value, must in (
        ("DPU.DATA_CUBE_CHANNEL: CHANNEL", cube.CHANNEL, channels),
        ("DPU.DATA_CUBE_CHANNEL: ORIG_CHANNEL", cube.ORIG_CHANNEL, channels),
        ("DPU.FEATURE_MODE_CFG: SURF_LEN", registers[DPU.FEATURE_MODE_CFG].SURF_LEN, length),
        ("DPU.DATA_CUBE_NOTCH_ADDR: NOTCH_ADDR_0", dpu.notch(registers), skipped),
        ("DPU.SURFACE_ADD: SURF_ADD", registers[DPU.SURFACE_ADD].SURF_ADD, added),
        ("DPU.BS_OW_CFG: SIZE_E_0", config.SIZE_E_0, elements),
        ("DPU.BS_OW_CFG: SIZE_E_1", config.SIZE_E_1, elements),
        ("DPU.BS_OW_CFG: SIZE_E_2", config.SIZE_E_2, elements),
        ("DPU.WDMA_SIZE_0: CHANNEL_WDMA", registers[DPU.WDMA_SIZE_0].CHANNEL_WDMA, channels),
        ("DPU.WDMA_SIZE_0: SIZE_C_WDMA", registers[DPU.WDMA_SIZE_0].SIZE_C_WDMA, parts),
        ("DPU.WDMA_SIZE_1: WIDTH_WDMA", registers[DPU.WDMA_SIZE_1].WIDTH_WDMA, wdma[0]),
        ("DPU.WDMA_SIZE_1: HEIGHT_WDMA", registers[DPU.WDMA_SIZE_1].HEIGHT_WDMA, wdma[1]),
    ):
        if value != must:
            raise SimulatorFault(f"{name} is {value}, must be {must} in a pass that turns")


def turned_bytes(source: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return [surface of 16 pixels, half, plane of a half, pixel] of int8 [surface, row, column,
    16]: each byte of the pixels becomes a plane.
    """
    pixels = source.reshape(-1, ATOM, ATOM).transpose(0, 2, 1)
    return pixels.reshape(len(pixels), ATOM // HALF, HALF, ATOM)
