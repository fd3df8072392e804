# Ref: docs/hardware/rocket.md §7.1, §8.1, §8.9
"""One convolution, decoded and checked: what each unit has to do."""

from dataclasses import dataclass, replace

from teflon.errors import SimulatorFault
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA, DPU

from .. import cna, core, dpu, rdma, scheduling, tables
from ..engine import Task
from ..policy import Breach, Findings, Policy
from ..registerfile import FIELDS, RegisterFile, masks

_INTERPRETED = masks(FIELDS, cna.FIELDS, core.FIELDS, dpu.FIELDS, rdma.FIELDS, scheduling.FIELDS)


@dataclass(frozen=True, eq=False, kw_only=True)
class ConvolutionTask(Task):
    """What each unit does in one task."""

    cna: cna.CnaTask
    core: core.CoreTask
    dpu: dpu.DpuTask
    rdma: rdma.RdmaTask

    @property
    def macs(self) -> int:
        return self.dpu.width * self.dpu.height * self.cna.weights.size


def plan(registers: RegisterFile, chip: Chip, policy: Policy) -> ConvolutionTask:
    """Check the registers of one list; raises SimulatorFault."""
    registers.check(_INTERPRETED)
    scheduling.check(registers, chip)
    if tables.load(registers.accesses) is not None:
        raise SimulatorFault(
            "DPU.LUT_ACCESS_CFG: a convolution loads tables, must be a list without CNA and CORE"
        )
    findings = Findings(policy)
    dpu_task, core_task = dpu.plan(registers), core.plan(registers)
    empty = _is_empty(registers, chip, findings)
    cna_task = cna.plan(registers, chip, findings)
    rdma_task = rdma.plan(registers, cna_task.features.width)
    task = ConvolutionTask(cna=cna_task, core=core_task, dpu=dpu_task, rdma=rdma_task, empty=empty)
    if not empty:
        _check_sizes(task, registers)
        _check_modes(task)
        _check_padding(task, findings)
    return replace(task, deviations=tuple(findings.deviations))


def _is_empty(registers: RegisterFile, chip: Chip, findings: Findings) -> bool:
    """Return whether the task has no output rows. Raises SimulatorFault for a size out of range."""
    cube = registers[DPU.DATA_CUBE_HEIGHT]
    if chip.max_height < cube.HEIGHT and registers[CNA.DATA_SIZE3].DATAOUT_ATOMICS == 0:
        findings.breach(
            Breach.EMPTY_TASK,
            f"{cube}: CNA.DATA_SIZE3 DATAOUT_ATOMICS is 0, must be at least one output row",
        )
        return True
    width = registers[DPU.DATA_CUBE_WIDTH].WIDTH
    channels = registers[DPU.DATA_CUBE_CHANNEL].CHANNEL
    for name, value, most in (
        (DPU.DATA_CUBE_WIDTH, width, chip.max_width),
        (DPU.DATA_CUBE_HEIGHT, cube.HEIGHT, chip.max_height),
        (DPU.DATA_CUBE_CHANNEL, channels, chip.max_channels),
    ):
        if value > most:
            raise SimulatorFault(f"{name.title()}: size is {value}, must be at most {most}")
    return False


def _check_sizes(task: ConvolutionTask, registers: RegisterFile) -> None:
    """Raise SimulatorFault unless the registers of all units have the same output size."""
    width, height, channels = task.dpu.width, task.dpu.height, task.dpu.padded_channels
    for name, value, must in (
        ("CNA.DATA_SIZE2: DATAOUT_WIDTH", task.cna.out_width, width),
        ("CNA.DATA_SIZE3: DATAOUT_ATOMICS", task.cna.out_pixels, width * height),
        ("CORE.DATAOUT_SIZE_0: DATAOUT_WIDTH", task.core.width, width),
        ("CORE.DATAOUT_SIZE_0: DATAOUT_HEIGHT", task.core.height, height),
        ("CORE.DATAOUT_SIZE_1: DATAOUT_CHANNEL", task.core.channels, channels),
        ("DPU_RDMA.RDMA_DATA_CUBE_WIDTH: WIDTH", task.rdma.width, width),
        ("DPU_RDMA.RDMA_DATA_CUBE_HEIGHT: HEIGHT", task.rdma.height, height),
        ("DPU_RDMA.RDMA_DATA_CUBE_CHANNEL: CHANNEL", task.rdma.channels, channels),
    ):
        if value != must:
            raise SimulatorFault(f"{name} is {value}, must be {must} as in the DPU's cube")
    dpu.check_sizes(registers, task.dpu)
    _check_last_window(task)
    weights = task.cna.weights
    have = weights.channels if weights.depthwise else weights.kernels
    if have < task.dpu.channels:
        raise SimulatorFault(
            f"CNA.WEIGHT_SIZE2: weights make {have} channels, must be at least ORIG_CHANNEL"
            f" {task.dpu.channels}"
        )


def _check_last_window(task: ConvolutionTask) -> None:
    """Raise SimulatorFault where a deconvolution makes more than its input reaches."""
    window, features = task.cna.window, task.cna.features
    if window.spread == (1, 1):
        return
    spans = window.spans((features.rows, features.width))
    for name, out, pad, span in (
        ("HEIGHT", task.dpu.height, window.pad[0], spans[0]),
        ("WIDTH", task.dpu.width, window.pad[1], spans[1]),
    ):
        if out > pad + span:
            raise SimulatorFault(
                f"DPU.DATA_CUBE_{name}: is {out}, must be at most {pad + span} so that every"
                " window of the deconvolution begins before the input's end"
            )


def _check_modes(task: ConvolutionTask) -> None:
    """Raise SimulatorFault unless the units agree on the mode and on the operands of the DPU."""
    depthwise = task.cna.weights.depthwise
    for name, value in (
        ("CORE.MISC_CFG: DW_EN", task.core.depthwise),
        ("DPU.FEATURE_MODE_CFG: CONV_MODE depthwise", task.dpu.depthwise),
        ("DPU_RDMA.RDMA_FEATURE_MODE_CFG: CONV_MODE depthwise", task.rdma.depthwise),
    ):
        if value != depthwise:
            raise SimulatorFault(f"{name} is {value}, must be {depthwise} as in CNA.CONV_CON1")
    if task.dpu.compensation is not None and not task.core.sums:
        raise SimulatorFault("CORE.MISC_CFG: QD_EN is 0, must be 1 unless DPU.BS_OW_CFG OD_BYPASS")
    if task.dpu.ew is not None and task.dpu.ew.per_channel:
        raise SimulatorFault(
            "DPU.EW_CFG: EW_DATA_MODE is 0 behind a convolution, must be 1 (others are not"
            " modelled)"
        )
    if (task.dpu.ew is None) != (task.rdma.operand is None):
        raise SimulatorFault(
            "DPU_RDMA.RDMA_ERDMA_CFG: ERDMA_DISABLE must be 1 exactly when DPU.EW_CFG EW_BYPASS"
            " is (one waits for the other: the job never finishes)"
        )
    dpu.check_streams(task.dpu, task.rdma.bs.use, task.rdma.bn.use)


def _check_padding(task: ConvolutionTask, findings: Findings) -> None:
    """Note different pad bytes; they matter where a depthwise window leaves the input."""
    window, features = task.cna.window, task.cna.features
    low, high = window.pad_values
    sizes = zip(
        (task.dpu.height, task.dpu.width),
        window.spans((features.rows, features.width)),
        range(2),
        strict=True,
    )
    padded = any(
        window.pad[i]
        or window.spread[i] > 1
        or (out - 1) * (not window.repeated) * window.stride[i]
        + (window.kernel[i] - 1) * window.dilation[i]
        >= size
        for out, size, i in sizes
    )
    if padded and low != high:
        findings.breach(
            Breach.PAD_BYTES,
            f"CNA.PAD_CON1: PAD_VALUE has the bytes {low} and {high}, must be equal in depthwise"
            " mode (odd channels get the second)",
        )
