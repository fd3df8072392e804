# Ref: docs/hardware/rocket.md §7.1 words 59-108, §8.4, §8.6, §8.7
# Ref: docs/hardware/rocket_vendor.md §1 (LUT sequence), §2 (interleaved writing)
"""DPU: what it does with one task's values, and where it writes them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.registers import DPU

from . import stages
from .cube import ATOM, aligned
from .registerfile import Fields, RegisterFile
from .stages import Elementwise, Lut, Output, Stage

FIELDS: Fields = {
    **stages.FIELDS,
    DPU.S_POINTER: "POINTER_PP_EN EXECUTER_PP_EN POINTER_PP_MODE POINTER_PP_CLEAR"
    " EXECUTER_PP_CLEAR",
    DPU.FEATURE_MODE_CFG: "FLYING_MODE OUTPUT_MODE CONV_MODE BURST_LEN",
    DPU.DATA_FORMAT: "BS_MUL_SHIFT_VALUE_NEG BN_MUL_SHIFT_VALUE_NEG",
    DPU.OFFSET_PEND: "OFFSET_PEND",
    DPU.DST_BASE_ADDR: "DST_BASE_ADDR",
    DPU.DST_SURF_STRIDE: "DST_SURF_STRIDE",
    DPU.DATA_CUBE_WIDTH: "WIDTH",
    DPU.DATA_CUBE_HEIGHT: "HEIGHT",
    DPU.DATA_CUBE_NOTCH_ADDR: "NOTCH_ADDR_0 NOTCH_ADDR_1",
    DPU.DATA_CUBE_CHANNEL: "CHANNEL ORIG_CHANNEL",
    DPU.BS_OW_CFG: "OW_SRC OD_BYPASS SIZE_E_0 SIZE_E_1 SIZE_E_2",
    DPU.BS_OW_OP: "OW_OP",
    DPU.WDMA_SIZE_0: "CHANNEL_WDMA",
    DPU.WDMA_SIZE_1: "WIDTH_WDMA HEIGHT_WDMA",
    DPU.SURFACE_ADD: "SURF_ADD",
    DPU.UNKNOWN_40C4: "",
    DPU.LUT_ACCESS_CFG: "LUT_ADDR LUT_TABLE_ID LUT_ACCESS_TYPE",
    DPU.LUT_ACCESS_DATA: "LUT_ACCESS_DATA",
}

_TO_MEMORY = 2
POINTERS = 0xE, 0x30
"""S_POINTER: groups that toggle; both groups back to 0, as lists have it that use a table."""
_LINE = 64
"""Bytes that one pixel of interleaved writing counts in WDMA_SIZE_0."""


@dataclass(frozen=True)
class Write:
    """Where the write DMA puts surfaces, rows and pixels: an address, and bytes between them."""

    address: int
    surface_bytes: int
    row_bytes: int
    pixel_bytes: int = ATOM
    single: bool = False
    """Whether the write DMA is told of single pixels."""

    def view(
        self, memory: DeviceMemory, surfaces: int, height: int, width: int
    ) -> NDArray[np.int8]:
        """Return int8 [surface, row, column, 16]: a view of memory."""
        return memory.strided(
            self.address,
            (surfaces, height, width, ATOM),
            (self.surface_bytes, self.row_bytes, self.pixel_bytes, 1),
            np.int8,
            "DPU.DST_BASE_ADDR",
        )

    def adjacent(self, width: int) -> bool:
        """Whether rows of pixels lie next to one another."""
        return (self.row_bytes, self.pixel_bytes) == (width * ATOM, ATOM)

    def surface(self, height: int, width: int) -> int:
        """Return the bytes from the first to the last pixel of a surface."""
        return (height - 1) * self.row_bytes + (width - 1) * self.pixel_bytes + ATOM


@dataclass(frozen=True)
class DpuTask:
    """What the DPU does in one task."""

    write: Write
    width: int
    height: int
    channels: int
    padded_channels: int
    depthwise: bool
    pend: int
    compensation: int | str | None
    """OW: one number for all channels, "stream", or None when bypassed."""
    bs: Stage
    bn: Stage
    ew: Elementwise | None
    output: Output
    lut: Lut | None = None


def plan(registers: RegisterFile) -> DpuTask:
    """Read the DPU's registers behind a convolution; SimulatorFault for what is not modelled."""
    cube, mode = registers[DPU.DATA_CUBE_CHANNEL], registers[DPU.FEATURE_MODE_CFG]
    if mode.FLYING_MODE or mode.OUTPUT_MODE != _TO_MEMORY or mode.CONV_MODE not in (0, 3):
        raise SimulatorFault(f"{mode}: must have FLYING_MODE=0, OUTPUT_MODE=2 and CONV_MODE 0 or 3")
    if cube.ORIG_CHANNEL > cube.CHANNEL or cube.CHANNEL % ATOM:
        raise SimulatorFault(f"{cube}: CHANNEL must be a multiple of 16 and at least ORIG_CHANNEL")
    _check_grouping(registers, mode.CONV_MODE == 3)
    return common(registers, _write(registers, mode.CONV_MODE == 3), mode.CONV_MODE == 3)


def common(registers: RegisterFile, write: Write, depthwise: bool) -> DpuTask:
    """Return the task with its stages; raises SimulatorFault for what is not modelled."""
    check_pointer(registers[DPU.S_POINTER].pack(), DPU.S_POINTER.title())
    cube = registers[DPU.DATA_CUBE_CHANNEL]
    return DpuTask(
        write,
        registers[DPU.DATA_CUBE_WIDTH].WIDTH,
        registers[DPU.DATA_CUBE_HEIGHT].HEIGHT,
        cube.ORIG_CHANNEL,
        cube.CHANNEL,
        depthwise,
        (registers[DPU.OFFSET_PEND].OFFSET_PEND + 128 & 0xFF) - 128,
        _compensation(registers),
        stages.bs(registers),
        stages.bn(registers),
        stages.elementwise(registers),
        stages.output(registers),
        stages.lut(registers),
    )


def check_pointer(value: int, name: str) -> None:
    """Raise SimulatorFault for a set-up of the register groups that no list has."""
    if value not in POINTERS:
        raise SimulatorFault(f"{name}: is #{value:x}, must be #e or #30 (others are not modelled)")


def _check_grouping(registers: RegisterFile, depthwise: bool) -> None:
    """Raise SimulatorFault unless channels are grouped as Mesa does it; nothing else is known."""
    groups = 4 if depthwise else 2
    config = registers[DPU.BS_OW_CFG]
    if {config.SIZE_E_0, config.SIZE_E_1, config.SIZE_E_2} != {groups}:
        raise SimulatorFault(
            f"{config}: SIZE_E_0, SIZE_E_1, SIZE_E_2 must be {groups} (others are not modelled)"
        )


def _write(registers: RegisterFile, depthwise: bool) -> Write:
    """Return where a convolution's output goes: whole rows, or pixels apart from one another."""
    address = registers[DPU.DST_BASE_ADDR].DST_BASE_ADDR
    aligned(address, DPU.DST_BASE_ADDR.title())
    surface = registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE
    added, width = registers[DPU.SURFACE_ADD].SURF_ADD, registers[DPU.DATA_CUBE_WIDTH].WIDTH
    skipped = notch(registers)
    if _is_single(registers, width, skipped):
        if not depthwise:
            raise SimulatorFault(
                f"{registers[DPU.WDMA_SIZE_0]}: single pixels must be written by a depthwise"
                " convolution (others are not modelled)"
            )
        return Write(address, surface * ATOM, added * ATOM, (1 + skipped) * ATOM, True)
    if skipped:
        raise SimulatorFault(
            f"{registers[DPU.DATA_CUBE_NOTCH_ADDR]}: a convolution must write single pixels,"
            f" CHANNEL_WDMA {_LINE * width} and WIDTH_WDMA 1; others are not modelled"
        )
    groups = 4 if depthwise else 2
    surfaces = -(-registers[DPU.DATA_CUBE_CHANNEL].ORIG_CHANNEL // ATOM)
    if added != groups * surface and surfaces > groups:
        raise SimulatorFault(
            f"DPU.SURFACE_ADD: is {added}, must be {groups} times DST_SURF_STRIDE {surface}"
        )
    return Write(address, surface * ATOM, width * ATOM)


def _is_single(registers: RegisterFile, width: int, skipped: int) -> bool:
    """Whether the write DMA counts a row of pixels as channels, 64 bytes for each."""
    counted = registers[DPU.WDMA_SIZE_0].CHANNEL_WDMA, registers[DPU.WDMA_SIZE_1].WIDTH_WDMA
    return counted == (_LINE * width, 1) and (width > 1 or skipped > 0)


def notch(registers: RegisterFile) -> int:
    """Return the pixels that the write DMA skips."""
    skipped = registers[DPU.DATA_CUBE_NOTCH_ADDR]
    if skipped.NOTCH_ADDR_0 != skipped.NOTCH_ADDR_1:
        raise SimulatorFault(f"{skipped}: NOTCH_ADDR_0 and NOTCH_ADDR_1 must be equal")
    return skipped.NOTCH_ADDR_0


def check_sizes(registers: RegisterFile, task: DpuTask) -> None:
    """Raise SimulatorFault unless the write DMA has the cube's size and no pixel meets another."""
    wdma, wide = registers[DPU.WDMA_SIZE_1], registers[DPU.WDMA_SIZE_0]
    single = task.write.single
    for name, value, must in (
        (
            "DPU.WDMA_SIZE_0: CHANNEL_WDMA",
            wide.CHANNEL_WDMA,
            task.width * _LINE if single else task.padded_channels,
        ),
        ("DPU.WDMA_SIZE_1: WIDTH_WDMA", wdma.WIDTH_WDMA, 1 if single else task.width),
        ("DPU.WDMA_SIZE_1: HEIGHT_WDMA", wdma.HEIGHT_WDMA, task.height),
    ):
        if value != must:
            raise SimulatorFault(f"{name} is {value}, must be {must} as in the DPU's cube")
    write = task.write
    if write.adjacent(task.width) and write.surface_bytes < task.width * task.height * ATOM:
        raise SimulatorFault(
            f"DPU.DST_SURF_STRIDE: {write.surface_bytes} bytes, must hold {task.height} rows of"
            f" {task.width} pixels"
        )
    check_apart(
        [
            (write.surface_bytes, -(-task.channels // ATOM)),
            (write.row_bytes, task.height),
            (write.pixel_bytes, task.width),
        ]
    )


def check_apart(steps: Iterable[tuple[int, int]]) -> None:
    """Raise SimulatorFault where two pixels would be written to one place.

    steps: bytes from one to the next, and how many, of surfaces, rows and pixels.
    """
    extent = ATOM
    for step, count in sorted((step, count) for step, count in steps if count > 1):
        if step < extent:
            raise SimulatorFault(
                f"DPU.DST_SURF_STRIDE, DATA_CUBE_NOTCH_ADDR and SURFACE_ADD: {step} bytes from one"
                f" part of the output to the next, must be at least {extent} (pixels would be"
                " written over others)"
            )
        extent += (count - 1) * step


def _compensation(registers: RegisterFile) -> int | str | None:
    config = registers[DPU.BS_OW_CFG]
    if config.OD_BYPASS:
        return None
    return "stream" if config.OW_SRC else registers[DPU.BS_OW_OP].OW_OP


def check_streams(task: DpuTask, bs_use: int, bn_use: int) -> None:
    """Raise SimulatorFault unless the readers stream just what the stages ask for."""
    for bits, register, streamed in (
        (
            bs_use,
            "DPU_RDMA.RDMA_BRDMA_CFG: BRDMA",
            (
                (1, task.bs.add == "stream", "BS_CFG BS_ALU_SRC"),
                (2, task.compensation == "stream", "BS_OW_CFG OW_SRC"),
                (4, task.bs.streamed, "BS_MUL_CFG BS_MUL_SRC"),
            ),
        ),
        (
            bn_use,
            "DPU_RDMA.RDMA_NRDMA_CFG: NRDMA",
            (
                (1, task.bn.add == "stream", "BN_CFG BN_ALU_SRC"),
                (4, task.bn.streamed, "BN_MUL_CFG BN_MUL_SRC"),
            ),
        ),
    ):
        for bit, used, name in streamed:
            if bool(bits & bit) != used:
                raise SimulatorFault(
                    f"{register}_DATA_USE is {bits}, bit {bit} must be set exactly when DPU.{name}"
                    " asks for it"
                )
