"""Command lists of passes of the DPU, written by hand for the simulator's tests.

`PassCase` describes one in the hardware's own terms; `PassBench` lays it out in memory and runs it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon_common.memory import DeviceMemory
from teflon_common.registers import Register
from teflon_rocket.chips import RK3588
from teflon_rocket.registers import (
    DPU,
    DPU_RDMA,
    PREPARE_WORD,
    REGISTERS,
    command,
    enable_command,
)
from teflon_rocket.simulator.machine import Machine
from teflon_rocket.simulator.policy import STRICT, Policy
from tests.rocket.lists import NOT_WRITTEN

IntArray = NDArray[np.int64]
SOURCE, TARGET, OTHER, BS, BN, COMMANDS = (0x100000 * i for i in range(1, 7))
ROOM = 1 << 16
"""Bytes of each tensor's buffer."""
POINTERS = {"POINTER_PP_EN": 1, "EXECUTER_PP_EN": 1, "POINTER_PP_MODE": 1}


@dataclass(frozen=True)
class Place:
    """Where a map lies in its buffer: bytes from its start, from a surface and row to the next."""

    at: int = 0
    surface: int = 0
    row: int = 0


@dataclass(frozen=True)
class PassCase:
    """One pass; size as (rows, columns) that are read. Numbers of stages come as `changes`."""

    size: tuple[int, int] = (3, 4)
    surfaces: int = 2
    source: Place | None = None
    target: Place | None = None
    other: str = ""
    """"pixel" or "channel": how the operand comes, if at all."""
    bs_use: int = 0
    bn_use: int = 0
    repeat: int = 1
    wide: int = 1
    """Bytes of an element: 2 for 16-bit moves."""
    seed: int = 0
    changes: dict[str, int] = field(default_factory=dict)

    def tight(self, times: int = 1) -> Place:
        """Surfaces of whole 64 bytes."""
        rows, columns = (n * times for n in self.size)
        return Place(0, -(-rows * columns // 4) * 64, columns * 16)

    @property
    def read(self) -> Place:
        return self.source or self.tight()

    @property
    def write(self) -> Place:
        return self.target or self.tight(self.repeat)

    def with_(self, **changes: int) -> PassCase:
        """The same with fields overwritten; dots in names are written as two underscores."""
        named = {k.replace("__", "."): v for k, v in changes.items()}
        return dataclasses.replace(self, changes=self.changes | named)


class PassBench:
    """A case in device memory, with random content."""

    def __init__(self, case: PassCase, policy: Policy = STRICT) -> None:
        rng = np.random.default_rng(case.seed)
        self.case, self.memory = case, DeviceMemory()
        self.machine = Machine(RK3588, self.memory, policy)
        self.bytes = {
            place: rng.integers(-128, 128, ROOM, np.int8) for place in (SOURCE, OTHER, TARGET)
        }
        self.before = self.bytes[TARGET].copy()
        for place, data in self.bytes.items():
            self.memory.map(place, data.view(np.uint8), f"tensor {place:x}")
        channels = case.surfaces * 16
        self.added = rng.integers(-3000, 3000, channels)
        self.factors = rng.integers(-(1 << 15), 1 << 15, channels)
        for place, use in ((BS, case.bs_use), (BN, case.bn_use)):
            values = self.added.astype("<i4") if use == 1 else self.factors.astype("<i2")
            self.memory.map(place, bytearray(values.tobytes()), f"stream {place:x}")

    @property
    def x(self) -> IntArray:
        """What is read, [row, column, channel]."""
        return self.cube(SOURCE, self.case.read)

    @property
    def o(self) -> IntArray:
        """The operand, in the shape of x."""
        if self.case.other == "pixel":
            return self.cube(OTHER, self.case.read)
        one = self.bytes[OTHER][: 16 * self.case.surfaces].astype(np.int64)
        return np.broadcast_to(one, (*self.case.size, len(one)))

    def cube(self, buffer: int, place: Place, times: int = 1) -> IntArray:
        rows, columns = (n * times for n in self.case.size)
        out = np.zeros((rows, columns, self.case.surfaces * 16), np.int64)
        for u in range(self.case.surfaces):
            for y in range(rows):
                for x in range(columns):
                    at = place.at + u * place.surface + y * place.row + x * 16
                    out[y, x, u * 16 : u * 16 + 16] = self.bytes[buffer][at : at + 16]
        return out

    def run(self, words: list[int] | None = None, core: int = 0) -> IntArray:
        """Execute; the output as [row, column, channel]."""
        self.execute(pass_list(self.case) if words is None else words, core)
        return self.cube(TARGET, self.case.write, self.case.repeat)

    def execute(self, words: list[int], core: int = 0) -> None:
        data = np.array(words, "<u8").view(np.uint8)
        self.memory.map(COMMANDS, data, "commands")
        try:
            self.machine.run_task(COMMANDS, len(words), core, "task 7")
        finally:
            self.memory.unmap(COMMANDS)

    def untouched(self) -> bool:
        """Whether nothing else than the output was written."""
        place, case = self.case.write, self.case
        seen = self.bytes[TARGET].copy()
        rows, columns = (n * case.repeat for n in case.size)
        for u in range(case.surfaces):
            for y in range(rows):
                at = place.at + u * place.surface + y * place.row
                seen[at : at + columns * 16] = self.before[at : at + columns * 16]
        return bool((seen == self.before).all())


def _registers(case: PassCase) -> list[Register]:
    rows, columns = case.size
    read, write, times = case.read, case.write, case.repeat
    elements = 16 // (2 if times > 1 else case.wide)
    lanes = 16 // case.wide
    wide = int(case.wide == 2 or times > 1)
    line = read.row // 16 - columns
    skipped = read.surface // 16 - rows * columns - (rows - 1) * line
    notch = (write.row * times if times > 1 else write.row) // 16 - columns * times
    surface = write.row if times > 1 else write.surface
    other = case.other == "pixel"
    moved = case.wide == 2
    return [
        DPU.S_POINTER(**POINTERS),
        DPU.FEATURE_MODE_CFG(FLYING_MODE=1, OUTPUT_MODE=2, BURST_LEN=15),
        DPU.DATA_FORMAT(IN_PRECISION=wide, PROC_PRECISION=int(moved), OUT_PRECISION=int(moved)),
        DPU.DST_BASE_ADDR(DST_BASE_ADDR=TARGET + write.at),
        DPU.DST_SURF_STRIDE(DST_SURF_STRIDE=surface // 16),
        DPU.DATA_CUBE_WIDTH(WIDTH=columns * times),
        DPU.DATA_CUBE_HEIGHT(HEIGHT=rows),
        DPU.DATA_CUBE_NOTCH_ADDR(NOTCH_ADDR_0=notch, NOTCH_ADDR_1=notch),
        DPU.DATA_CUBE_CHANNEL(CHANNEL=case.surfaces * lanes, ORIG_CHANNEL=case.surfaces * lanes),
        DPU.BS_CFG(BS_BYPASS=1, BS_ALU_BYPASS=1, BS_MUL_BYPASS=1, BS_RELU_BYPASS=1),
        DPU.BS_OW_CFG(OD_BYPASS=1, SIZE_E_0=times, SIZE_E_1=times, SIZE_E_2=times),
        DPU.WDMA_SIZE_0(
            CHANNEL_WDMA=case.surfaces * lanes, SIZE_C_WDMA=(case.surfaces - 1) * moved
        ),
        DPU.WDMA_SIZE_1(
            WIDTH_WDMA=rows * columns if moved else columns * times,
            HEIGHT_WDMA=1 if moved else rows,
        ),
        DPU.BN_CFG(BN_BYPASS=1, BN_ALU_BYPASS=1, BN_MUL_BYPASS=1, BN_RELU_BYPASS=1),
        _elementwise(case),
        DPU.EW_CVT_SCALE_VALUE(EW_OP_CVT_SCALE=1),
        DPU.OUT_CVT_SCALE(OUT_CVT_SCALE=1),
        DPU.SURFACE_ADD(SURF_ADD=write.surface // 16),
        DPU_RDMA.RDMA_S_POINTER(**POINTERS),
        DPU_RDMA.RDMA_DATA_CUBE_WIDTH(WIDTH=columns),
        DPU_RDMA.RDMA_DATA_CUBE_HEIGHT(HEIGHT=rows, EW_LINE_NOTCH_ADDR=line * other),
        DPU_RDMA.RDMA_DATA_CUBE_CHANNEL(CHANNEL=case.surfaces * elements),
        DPU_RDMA.RDMA_SRC_BASE_ADDR(SRC_BASE_ADDR=SOURCE + read.at),
        DPU_RDMA.RDMA_BRDMA_CFG(BRDMA_DATA_USE=case.bs_use),
        DPU_RDMA.RDMA_BS_BASE_ADDR(BS_BASE_ADDR=BS if case.bs_use else 0),
        DPU_RDMA.RDMA_NRDMA_CFG(NRDMA_DATA_USE=case.bn_use),
        DPU_RDMA.RDMA_BN_BASE_ADDR(BN_BASE_ADDR=BN if case.bn_use else 0),
        *_operand(case, skipped),
        DPU_RDMA.RDMA_FEATURE_MODE_CFG(
            FLYING_MODE=1, BURST_LEN=15, IN_PRECISION=wide, PROC_PRECISION=int(moved)
        ),
        DPU_RDMA.RDMA_SRC_DMA_CFG(
            KERNEL_WIDTH=times,
            KERNEL_HEIGHT=times,
            KERNEL_STRIDE_WIDTH=times,
            KERNEL_STRIDE_HEIGHT=times,
            UNPOOLING_EN=int(times > 1),
            LINE_NOTCH_ADDR=line,
        ),
        DPU_RDMA.RDMA_SURF_NOTCH(SURF_NOTCH_ADDR=skipped & 0xFFFFFFF),
        DPU_RDMA.RDMA_WEIGHT(M_WEIGHT=1, B_WEIGHT=1, N_WEIGHT=1, E_WEIGHT=1),
    ]


def _elementwise(case: PassCase) -> Register:
    if not case.other:
        return DPU.EW_CFG(
            EW_BYPASS=1, EW_OP_BYPASS=1, EW_LUT_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_RELU_BYPASS=1
        )
    return DPU.EW_CFG(
        EW_OP_SRC=1,
        EW_LUT_BYPASS=1,
        EW_RELU_BYPASS=1,
        EW_ALU_ALGO=2,
        EDATA_SIZE=1,
        EW_DATA_MODE=int(case.other == "pixel"),
        EW_CVT_TYPE=1,
    )


def _operand(case: PassCase, skipped: int) -> list[Register]:
    if not case.other:
        return [DPU_RDMA.RDMA_ERDMA_CFG(ERDMA_DISABLE=1)]
    pixel = case.other == "pixel"
    at, stride = (case.read.at, case.read.surface // 16) if pixel else (0, 1)
    return [
        DPU_RDMA.RDMA_ERDMA_CFG(ERDMA_DATA_MODE=int(pixel), ERDMA_DATA_SIZE=1),
        DPU_RDMA.RDMA_EW_BASE_ADDR(EW_BASE_ADDR=OTHER + at),
        DPU_RDMA.RDMA_EW_SURF_STRIDE(EW_SURF_STRIDE=stride),
        DPU_RDMA.RDMA_EW_SURF_NOTCH(EW_SURF_NOTCH=skipped & 0xFFFFFFF if pixel else 0),
    ]


def pass_list(case: PassCase, accesses: list[int] | None = None) -> list[int]:
    """The command list of a case; `accesses` are words that stand at its end."""
    values: dict[type[Register], Any] = {
        r: r()
        for block in (DPU, DPU_RDMA)
        for r in block.registers
        if r.__name__.removeprefix("RDMA_") not in NOT_WRITTEN
    }
    values |= {type(r): r for r in _registers(case)}
    titles = {r.title(): r for r in REGISTERS}
    for name, value in case.changes.items():
        if name in titles:
            values[titles[name]] = titles[name].raw(value)
        else:
            title, _, changed = name.rpartition(".")
            register = titles[title]
            values[register] = type(values[register])(**vars(values[register]) | {changed: value})
    words = [command(register) for register in values.values()]
    return [*words, *(accesses or ()), 0, 0, PREPARE_WORD, enable_command(0x18)]
