# Ref: docs/hardware/rocket_vendor.md §1 (LUT sequence), §2 (elementwise, copies, copy pass address
# Ref: rules, resize nearest, transpose W<->H)
"""One pass of the DPU, decoded and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from teflon.errors import SimulatorFault
from teflon_rocket.chips import Chip
from teflon_rocket.registers import DPU, DPU_RDMA

from .. import dpu, tables
from ..cube import ATOM, aligned
from ..dpu import DpuTask, Write
from ..engine import Task
from ..operands import Stream, bn_stream, bs_stream
from ..policy import Findings, Policy
from ..registerfile import FIELDS, Fields, RegisterFile, masks
from ..stages import Output, Scale, Stage
from ..tables import Tables
from . import reader, turns
from .reader import ReadTask
from .turns import Turn

_DPU: Fields = {
    **dpu.FIELDS,
    DPU.FEATURE_MODE_CFG: "FLYING_MODE OUTPUT_MODE BURST_LEN SURF_LEN TP_EN",
    DPU.DATA_FORMAT: "BS_MUL_SHIFT_VALUE_NEG BN_MUL_SHIFT_VALUE_NEG PROC_PRECISION IN_PRECISION"
    " OUT_PRECISION",
    DPU.BS_OW_CFG: "OW_SRC OD_BYPASS SIZE_E_0 SIZE_E_1 SIZE_E_2 TP_ORG_EN",
    DPU.WDMA_SIZE_0: "CHANNEL_WDMA SIZE_C_WDMA TP_PRECISION",
}
_INTERPRETED = masks(FIELDS, _DPU, reader.FIELDS)

_TO_MEMORY = 2
BYTES, REPEATED, MOVED = (0, 0, 0), (1, 0, 0), (1, 1, 1)
"""IN, PROC and OUT_PRECISION: arithmetic on int8; pixels that are repeated, read as 8 times 16
bits; pixels that are moved as 8 times 16 bits."""
_LANES = {BYTES: 16, REPEATED: 8, MOVED: 8}
_UNCHANGED = Output(Scale(1, 0), 0, False, False)


@dataclass(frozen=True, eq=False, kw_only=True)
class PassTask(Task):
    """What a pass reads, computes and writes, and the tables that it loads.

    surfaces: written; the DPU's width and height are those of a written surface, too.
    line_bytes: from a repetition of a row to the next one.
    """

    dpu: DpuTask
    read: ReadTask
    surfaces: int
    turn: Turn | None
    bs: Stream
    bn: Stream
    line_bytes: int
    loads: Tables | None

    @property
    def copies(self) -> bool:
        """Whether bytes stay as they are."""
        task = self.dpu
        off = {task.bs, replace(task.bn, multiply_first=False)} == {Stage()}
        return off and task.ew is None and task.lut is None and task.output == _UNCHANGED


def plan(registers: RegisterFile, chip: Chip, policy: Policy) -> PassTask:
    """Check the registers of one list; raises SimulatorFault."""
    registers.check(_INTERPRETED)
    findings = Findings(policy)
    mode = registers[DPU.FEATURE_MODE_CFG]
    if not mode.FLYING_MODE or mode.OUTPUT_MODE != _TO_MEMORY:
        raise SimulatorFault(f"{mode}: a pass must have FLYING_MODE=1 and OUTPUT_MODE=2")
    dpu.check_pointer(registers[DPU_RDMA.RDMA_S_POINTER].pack(), DPU_RDMA.RDMA_S_POINTER.title())
    kind = _kind(registers)
    read = reader.plan(registers, findings, _LANES[kind])
    turn = turns.turn_of(registers)
    write = _write(registers, kind, read.width * read.repeat, turn)
    surfaces, height, width = read.surfaces, read.height, read.width * read.repeat
    if turn is not None:
        surfaces, height, width = turns.size(turn, read)
    task = PassTask(
        dpu=replace(dpu.common(registers, write, False), width=width, height=height),
        read=read,
        surfaces=surfaces,
        turn=turn,
        bs=bs_stream(registers),
        bn=bn_stream(registers),
        line_bytes=registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE * ATOM,
        loads=tables.load(registers.accesses),
    )
    _check_cube(registers, task, chip)
    _check_kind(registers, task, kind)
    _check_modes(registers, task)
    _check_apart(task)
    return replace(task, deviations=tuple(findings.deviations))


def _check_kind(registers: RegisterFile, task: PassTask, kind: tuple[int, int, int]) -> None:
    """Raise SimulatorFault for sizes that do not agree, and what 16-bit elements cannot do."""
    if task.turn is None:
        _check_size(registers, task, kind)
    elif kind == MOVED:
        turns.check(registers, task.turn, task.read)
    else:
        raise SimulatorFault(
            f"{registers[DPU.DATA_FORMAT]}: a pass with {task.turn.value} must have int16 in all"
            " three precisions (others are not modelled)"
        )
    if kind != BYTES and not task.copies:
        raise SimulatorFault(
            f"{registers[DPU.DATA_FORMAT]}: a pass of 16-bit elements must leave them as they are"
            " (all stages bypassed, OUT_CVT_SCALE 1)"
        )


def _kind(registers: RegisterFile) -> tuple[int, int, int]:
    form, mode = registers[DPU.DATA_FORMAT], registers[DPU_RDMA.RDMA_FEATURE_MODE_CFG]
    kind = form.IN_PRECISION, form.PROC_PRECISION, form.OUT_PRECISION
    if kind not in _LANES or kind[:2] != (mode.IN_PRECISION, mode.PROC_PRECISION):
        raise SimulatorFault(
            f"{form}: with {mode}, must be int8 in all three precisions, int16 in all, or int16 in"
            " IN_PRECISION alone, and the same in DPU_RDMA (others are not modelled)"
        )
    return kind


def _write(
    registers: RegisterFile, kind: tuple[int, int, int], width: int, turn: Turn | None
) -> Write:
    """Return where the output goes; a surface of repeated pixels is one line by DST_SURF_STRIDE."""
    address = registers[DPU.DST_BASE_ADDR].DST_BASE_ADDR
    aligned(address, DPU.DST_BASE_ADDR.title())
    if turn is not None:
        return turns.write(registers, turn, address)
    surface = registers[DPU.DST_SURF_STRIDE].DST_SURF_STRIDE
    added = registers[DPU.SURFACE_ADD].SURF_ADD
    if kind != REPEATED and added != surface:
        raise SimulatorFault(
            f"DPU.SURFACE_ADD: is {added} in a pass, must be DST_SURF_STRIDE {surface}"
        )
    return Write(address, added * ATOM, (width + dpu.notch(registers)) * ATOM)


def _check_cube(registers: RegisterFile, task: PassTask, chip: Chip) -> None:
    """Raise SimulatorFault for a size out of range.

    The cube may be larger than what is read and written, as it is where the vendor copies edges.
    """
    width, height = registers[DPU.DATA_CUBE_WIDTH].WIDTH, registers[DPU.DATA_CUBE_HEIGHT].HEIGHT
    for name, value, least, most in (
        (DPU.DATA_CUBE_WIDTH, width, task.read.width * task.read.repeat, chip.max_width),
        (DPU.DATA_CUBE_HEIGHT, height, task.read.height, chip.max_height),
        (DPU.DATA_CUBE_CHANNEL, task.dpu.padded_channels, 1, chip.max_channels),
    ):
        if not least <= value <= most:
            raise SimulatorFault(
                f"{name.title()}: size is {value}, must be at least {least} and at most {most}"
            )


def _check_size(registers: RegisterFile, task: PassTask, kind: tuple[int, int, int]) -> None:
    """Raise SimulatorFault unless the sizes of the reader, the cube and the write DMA agree."""
    wdma, wide = registers[DPU.WDMA_SIZE_1], registers[DPU.WDMA_SIZE_0]
    width, height, channels = task.dpu.width, task.dpu.height, task.dpu.padded_channels
    times, surfaces = task.read.repeat, task.read.surfaces
    lanes = ATOM if kind == REPEATED else _LANES[kind]  # of the cube
    size, parts = (width, height), 0
    if kind == MOVED:  # as the vendor has it for 12 surfaces of 12 pixels
        size, parts = (width * height, 1), surfaces - 1
    for name, value, must in (
        ("DPU.DATA_CUBE_CHANNEL: CHANNEL", channels, surfaces * lanes),
        ("DPU.DATA_CUBE_CHANNEL: ORIG_CHANNEL", task.dpu.channels, channels),
        ("DPU.WDMA_SIZE_0: CHANNEL_WDMA", wide.CHANNEL_WDMA, channels),
        ("DPU.WDMA_SIZE_0: SIZE_C_WDMA", wide.SIZE_C_WDMA, parts),
        ("DPU.WDMA_SIZE_1: WIDTH_WDMA", wdma.WIDTH_WDMA, size[0]),
        ("DPU.WDMA_SIZE_1: HEIGHT_WDMA", wdma.HEIGHT_WDMA, size[1]),
    ):
        if value != must:
            raise SimulatorFault(f"{name} is {value}, must be {must} in this pass")
    if kind == MOVED and width * height != surfaces:
        raise SimulatorFault(
            f"DPU.WDMA_SIZE_0: {surfaces} surfaces of {width * height} pixels of 16-bit elements,"
            " must be as many (SIZE_C_WDMA of others is not known)"
        )
    if (kind == REPEATED) != (times > 1) or (times > 1 and surfaces != 1):
        raise SimulatorFault(
            f"{registers[DPU_RDMA.RDMA_SRC_DMA_CFG]}: repeats pixels {times} times in {surfaces}"
            " surfaces, must do so in one surface and with IN_PRECISION=1 (others are not modelled)"
        )


def _check_modes(registers: RegisterFile, task: PassTask) -> None:
    """Raise SimulatorFault unless the units agree on the operands of the DPU."""
    ew, reading, config = task.dpu.ew, task.read.operand, registers[DPU.BS_OW_CFG]
    if (ew is None) != (reading is None):
        raise SimulatorFault(
            "DPU_RDMA.RDMA_ERDMA_CFG: ERDMA_DISABLE must be 1 exactly when DPU.EW_CFG EW_BYPASS"
            " is (one waits for the other: the job never finishes)"
        )
    if ew is not None and reading is not None and ew.per_channel != (reading.pixel_bytes == 0):
        raise SimulatorFault(
            f"{registers[DPU_RDMA.RDMA_ERDMA_CFG]}: ERDMA_DATA_MODE must be DPU.EW_CFG's"
            " EW_DATA_MODE"
        )
    if not config.OD_BYPASS or config.OW_SRC:
        raise SimulatorFault(f"{config}: a pass must have OD_BYPASS=1 and OW_SRC=0 (no windows)")
    sizes = {config.SIZE_E_0, config.SIZE_E_1, config.SIZE_E_2}
    if task.turn is None and sizes != {task.read.repeat}:
        raise SimulatorFault(
            f"{config}: SIZE_E_0, SIZE_E_1, SIZE_E_2 must be {task.read.repeat} in this pass"
        )
    if task.loads is not None and task.dpu.lut is not None:
        raise SimulatorFault(
            "DPU.LUT_ACCESS_CFG: a pass loads tables and uses them, must be two lists (which comes"
            " first is not known)"
        )
    dpu.check_streams(task.dpu, task.bs.use, task.bn.use)


def _check_apart(task: PassTask) -> None:
    """Raise SimulatorFault where two pixels would be written to one place."""
    write, times = task.dpu.write, task.read.repeat
    dpu.check_apart(
        [
            (write.surface_bytes, task.surfaces),
            (task.line_bytes, times),
            (write.row_bytes, task.dpu.height),
            (write.pixel_bytes, task.dpu.width),
        ]
    )
