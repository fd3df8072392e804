# Ref: docs/hardware/rocket_vendor.md §0 finding 8, §2 (registers, line buffer, numbers): all 603
# Ref: int8 lists of the vendor's compiler obey what is checked here
"""PPU: the largest or the mean of each window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.registers import PPU

from ..cube import ATOM
from ..registerfile import Fields, RegisterFile
from .ppu_rdma import check_surface

FIELDS: Fields = {
    PPU.S_POINTER: "POINTER_PP_EN EXECUTER_PP_EN POINTER_PP_MODE",
    PPU.DATA_CUBE_IN_WIDTH: "CUBE_IN_WIDTH",
    PPU.DATA_CUBE_IN_HEIGHT: "CUBE_IN_HEIGHT",
    PPU.DATA_CUBE_IN_CHANNEL: "CUBE_IN_CHANNEL",
    PPU.DATA_CUBE_OUT_WIDTH: "CUBE_OUT_WIDTH",
    PPU.DATA_CUBE_OUT_HEIGHT: "CUBE_OUT_HEIGHT",
    PPU.DATA_CUBE_OUT_CHANNEL: "CUBE_OUT_CHANNEL",
    PPU.OPERATION_MODE_CFG: "POOLING_METHOD FLYING_MODE NOTCH_ADDR",
    PPU.POOLING_KERNEL_CFG: "KERNEL_WIDTH KERNEL_HEIGHT KERNEL_STRIDE_WIDTH KERNEL_STRIDE_HEIGHT",
    PPU.RECIP_KERNEL_WIDTH: "RECIP_KERNEL_WIDTH",
    PPU.RECIP_KERNEL_HEIGHT: "RECIP_KERNEL_HEIGHT",
    PPU.POOLING_PADDING_CFG: "PAD_LEFT PAD_TOP PAD_RIGHT PAD_BOTTOM",
    PPU.PADDING_VALUE_1_CFG: "PAD_VALUE_0",
    PPU.PADDING_VALUE_2_CFG: "PAD_VALUE_1",
    PPU.DST_BASE_ADDR: "DST_BASE_ADDR",
    PPU.DST_SURF_STRIDE: "DST_SURF_STRIDE",
    PPU.DATA_FORMAT: "INDEX_ADD",  # the others: int8, not from the DPU
    PPU.MISC_CTRL: "BURST_LEN",
}

_AVERAGE, _MAX = 0, 1  # POOLING_METHOD
_LOWEST = -128
_LARGEST_KERNEL = 7
_LARGEST_STRIDE = 7
_LINE_BUFFER = 128
"""Columns of the output that one task may make, times the rows of windows that are open at once."""
_ONE = 1 << 16
_HALF = 1 << 31

Pair = tuple[int, int]


@dataclass(frozen=True)
class Pool:
    """What one task computes, and where it writes; pairs are (rows, columns)."""

    average: bool
    kernel: Pair
    stride: Pair
    before: Pair
    """Padding above and left."""
    after: Pair
    fill: int
    reciprocals: Pair
    address: int
    surfaces: int
    size: Pair
    line_bytes: int
    surface_bytes: int

    def result(self, memory: DeviceMemory) -> NDArray[np.int8]:
        """Return the place of the result as int8 [surface, row, column, 16]."""
        return memory.strided(
            self.address,
            (self.surfaces, *self.size, ATOM),
            (self.surface_bytes, self.line_bytes, ATOM, 1),
            np.int8,
            PPU.DST_BASE_ADDR.title(),
        )

    def compute(self, features: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return what becomes of int8 [surface, row, column, 16]."""
        pads = ((0, 0), *zip(self.before, self.after, strict=True), (0, 0))
        padded = np.pad(features, pads, constant_values=self.fill)
        if not self.average:
            return self._along(1, self._along(2, padded, np.maximum), np.maximum)
        sums = self._along(1, self._along(2, padded.astype(np.int32), np.add), np.add)
        high, wide = self.reciprocals
        means = (sums.astype(np.int64) * wide * high + _HALF) >> 32
        return means.astype(np.int8)  # |sum| * 2^16 / kernel stays within int8

    def _along(self, axis: int, x: NDArray[Any], join: Callable[..., Any]) -> NDArray[Any]:
        """Join the taps of the windows along one axis."""
        which = axis - 1
        step, count = self.stride[which], self.size[which]
        taps = [
            x[(slice(None),) * axis + (slice(tap, tap + (count - 1) * step + 1, step),)]
            for tap in range(self.kernel[which])
        ]
        joined = taps[0].copy()
        for tap in taps[1:]:
            join(joined, tap, out=joined)
        return joined


def plan(registers: RegisterFile) -> Pool:
    """Read the registers of the PPU; raises SimulatorFault."""
    mode, format_ = registers[PPU.OPERATION_MODE_CFG], registers[PPU.DATA_FORMAT]
    if mode.POOLING_METHOD not in (_AVERAGE, _MAX) or not mode.FLYING_MODE:
        raise SimulatorFault(
            f"{mode}: must have POOLING_METHOD 0 (average) or 1 (max) and FLYING_MODE 1 (input by"
            " PPU_RDMA); others are not modelled"
        )
    kernel, pads = registers[PPU.POOLING_KERNEL_CFG], registers[PPU.POOLING_PADDING_CFG]
    address = registers[PPU.DST_BASE_ADDR].DST_BASE_ADDR * ATOM
    surface = registers[PPU.DST_SURF_STRIDE].DST_SURF_STRIDE
    if surface != format_.INDEX_ADD:
        raise SimulatorFault(
            f"PPU.DATA_FORMAT: INDEX_ADD is {format_.INDEX_ADD}, must be DST_SURF_STRIDE {surface}"
        )
    width = registers[PPU.DATA_CUBE_OUT_WIDTH].CUBE_OUT_WIDTH
    average = mode.POOLING_METHOD == _AVERAGE
    pool = Pool(
        average=average,
        kernel=(kernel.KERNEL_HEIGHT, kernel.KERNEL_WIDTH),
        stride=(kernel.KERNEL_STRIDE_HEIGHT, kernel.KERNEL_STRIDE_WIDTH),
        before=(pads.PAD_TOP, pads.PAD_LEFT),
        after=(pads.PAD_BOTTOM, pads.PAD_RIGHT),
        fill=_padding_value(registers) if average else _LOWEST,
        reciprocals=(
            registers[PPU.RECIP_KERNEL_HEIGHT].RECIP_KERNEL_HEIGHT,
            registers[PPU.RECIP_KERNEL_WIDTH].RECIP_KERNEL_WIDTH,
        ),
        address=address,
        surfaces=registers[PPU.DATA_CUBE_OUT_CHANNEL].CUBE_OUT_CHANNEL // ATOM,
        size=(registers[PPU.DATA_CUBE_OUT_HEIGHT].CUBE_OUT_HEIGHT, width),
        line_bytes=(width + mode.NOTCH_ADDR) * ATOM,
        surface_bytes=surface * ATOM,
    )
    _check(pool, registers)
    return pool


def _padding_value(registers: RegisterFile) -> int:
    """Return the 35-bit padding value, which must be an int8 one."""
    low = registers[PPU.PADDING_VALUE_1_CFG].PAD_VALUE_0
    stored = registers[PPU.PADDING_VALUE_2_CFG].PAD_VALUE_1 << 32 | low
    value = stored - (1 << 35) if stored >> 34 else stored
    if not _LOWEST <= value <= 127:
        raise SimulatorFault(f"PPU.PADDING_VALUE_1_CFG: value is {value}, must be -128 to 127")
    return value


def _check(pool: Pool, registers: RegisterFile) -> None:
    if max(pool.kernel) > _LARGEST_KERNEL or max(pool.stride) > _LARGEST_STRIDE:
        raise SimulatorFault(
            f"PPU.POOLING_KERNEL_CFG: kernel is {pool.kernel}, stride {pool.stride}, must be at"
            f" most {_LARGEST_KERNEL} and {_LARGEST_STRIDE}"
        )
    _check_sizes(pool, registers)
    _check_operands(pool, registers)
    open_rows = -(-pool.kernel[0] // pool.stride[0])
    most = _LINE_BUFFER >> (open_rows - 1).bit_length()
    if pool.size[1] > most:
        raise SimulatorFault(
            f"PPU.DATA_CUBE_OUT_WIDTH: is {pool.size[1]}, must be at most {most} where"
            f" {open_rows} rows of windows are open at once (line buffer)"
        )
    check_surface(PPU.DST_SURF_STRIDE.title(), pool.surface_bytes)
    need = (pool.size[0] - 1) * pool.line_bytes + pool.size[1] * ATOM
    if pool.surface_bytes < need:
        raise SimulatorFault(
            f"PPU.DST_SURF_STRIDE: is {pool.surface_bytes} bytes, must hold the rows of {need}"
        )


def _check_sizes(pool: Pool, registers: RegisterFile) -> None:
    """Raise SimulatorFault unless windows cover input and padding exactly, at equal channels."""
    inside = (
        registers[PPU.DATA_CUBE_IN_HEIGHT].CUBE_IN_HEIGHT,
        registers[PPU.DATA_CUBE_IN_WIDTH].CUBE_IN_WIDTH,
    )
    for axis, name in enumerate(("PPU.DATA_CUBE_IN_HEIGHT", "PPU.DATA_CUBE_IN_WIDTH")):
        covered = (pool.size[axis] - 1) * pool.stride[axis] + pool.kernel[axis]
        before, after = pool.before[axis], pool.after[axis]
        if inside[axis] + before + after != covered or before >= pool.kernel[axis]:
            raise SimulatorFault(
                f"{name}: is {inside[axis]} with padding {before} and {after}, must be the"
                f" {covered} that the windows cover, and padding less than a window"
            )
    have = registers[PPU.DATA_CUBE_IN_CHANNEL].CUBE_IN_CHANNEL
    channels = registers[PPU.DATA_CUBE_OUT_CHANNEL].CUBE_OUT_CHANNEL
    if have != channels or channels % ATOM:
        raise SimulatorFault(
            f"PPU.DATA_CUBE_OUT_CHANNEL: is {channels}, input has {have}, must be equal and a"
            f" multiple of {ATOM}"
        )


def _check_operands(pool: Pool, registers: RegisterFile) -> None:
    """Raise SimulatorFault for reciprocals and padding values that no known list has."""
    high, wide = pool.kernel
    wanted = (_ONE // high, _ONE // wide) if pool.average else (0, 0)
    if pool.reciprocals != wanted:
        raise SimulatorFault(
            f"PPU.RECIP_KERNEL_WIDTH: reciprocals of rows and columns are {pool.reciprocals}, must"
            f" be {wanted}"
        )
    values = registers[PPU.PADDING_VALUE_1_CFG].pack() | registers[PPU.PADDING_VALUE_2_CFG].pack()
    if not pool.average and values:
        raise SimulatorFault(
            "PPU.PADDING_VALUE_1_CFG: is set, must be 0 for the largest (padding is left out)"
        )
    burst = registers[PPU.MISC_CTRL].BURST_LEN
    if burst != 3:
        raise SimulatorFault(f"PPU.MISC_CTRL: BURST_LEN is {burst}, must be 3 (four beats)")
