# Ref: docs/hardware/rocket.md §1.1 (MACs per cycle), §4.1 (16-byte atoms), §4.3 (groups of channels
# Ref: and kernels), §6 (tasks, fetched rows, weight reuse), §8 (which unit reads and writes what)
"""A model of time for rocket programs, read off the command lists that the chip is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from teflon.pipe import HOST, Cost
from teflon_common.registers import Register
from teflon_rocket.chips import CHIPS, RATES, Chip, Rates
from teflon_rocket.program import Job, Port, RocketProgram, Task
from teflon_rocket.registers import CNA, CORE, DPU, DPU_RDMA, WRITE, split_command

_DEPTHWISE = 3  # CONV_CON1.CONV_MODE
_BIAS_BYTES = 4


@dataclass(frozen=True)
class _Work:
    """What one task does."""

    weights: tuple[int, int]  # buffer and offset: the same for all tasks of an operation
    macs: int
    cycles: int
    read: int
    written: int
    coefficients: int
    hits: int


def costs(program: RocketProgram, rates: Rates | None = None) -> list[Cost]:
    """Return one cost for each operation, between those of the host's conversions."""
    chip = CHIPS[program.chip]
    rates = rates or RATES[program.chip]
    steps = [_conversion(p, program, rates, "in") for p in program.input_ports]
    steps += _operations(program, chip, rates)
    return steps + [_conversion(p, program, rates, "out") for p in program.output_ports]


def _operations(program: RocketProgram, chip: Chip, rates: Rates) -> list[Cost]:
    where = {(r.buffer, r.offset): (r.target, r.addend) for r in program.relocs}
    found: list[Cost] = []
    last = None
    for job in program.jobs:
        launch = rates.job
        for task, name in zip(job.tasks, _names(job), strict=True):
            work = _work(program, task, chip, where)
            cost = _cost(work, chip, rates, launch, name)
            launch = 0.0
            if (name, work.weights) == last:
                found[-1] = _sum(found[-1], cost)
            else:
                found.append(cost)
            last = name, work.weights
    return found


def _names(job: Job) -> Sequence[str]:
    """The operation of each task; the job's own name where nobody told."""
    names = job.task_names
    return names if len(names) == len(job.tasks) else (job.name,) * len(job.tasks)


def _work(
    program: RocketProgram,
    task: Task,
    chip: Chip,
    where: Mapping[tuple[int, int], tuple[int, int]],
) -> _Work:
    data = program.buffers[task.buffer].data or b""
    words = np.frombuffer(data, "<u8", task.count, task.offset).tolist()
    listed = {split_command(w)[:2]: (n, split_command(w)[2]) for n, w in enumerate(words)}

    def value(register: type[Register]) -> int:
        place = (register.block.target + WRITE, register.offset)
        return listed.get(place, (0, 0))[1]

    place = listed.get((CNA.DCOMP_ADDR0.block.target + WRITE, CNA.DCOMP_ADDR0.offset), (0, 0))[0]
    weights = where.get((task.buffer, task.offset + 8 * place), (-1, -1))
    size = CNA.DATA_SIZE1.unpack(value(CNA.DATA_SIZE1))
    fetched = CNA.FC_DATA_SIZE0.unpack(value(CNA.FC_DATA_SIZE0))
    kernel = CNA.WEIGHT_SIZE2.unpack(value(CNA.WEIGHT_SIZE2))
    mode = CNA.CONV_CON1.unpack(value(CNA.CONV_CON1))
    cube = DPU.DATA_CUBE_CHANNEL.unpack(value(DPU.DATA_CUBE_CHANNEL))
    out = CORE.DATAOUT_SIZE_0.unpack(value(CORE.DATAOUT_SIZE_0))
    pixels = out.DATAOUT_WIDTH * out.DATAOUT_HEIGHT
    taps = kernel.WEIGHT_WIDTH * kernel.WEIGHT_HEIGHT
    depthwise = mode.CONV_MODE == _DEPTHWISE
    real, kernels = size.DATAIN_CHANNEL_REAL, cube.ORIG_CHANNEL
    atom = mode.ARGB_IN - 7 if mode.ARGB_IN else size.DATAIN_CHANNEL
    coefficients = value(CNA.WEIGHT_SIZE0) + kernels * _BIAS_BYTES
    reused = CNA.CBUF_CON0.unpack(value(CNA.CBUF_CON0)).WEIGHT_REUSE
    hits = value(CNA.WEIGHT_SIZE0) if reused else 0
    written = pixels * cube.CHANNEL
    disabled = DPU_RDMA.RDMA_ERDMA_CFG.unpack(value(DPU_RDMA.RDMA_ERDMA_CFG)).ERDMA_DISABLE
    operand = 0 if disabled else written
    features = fetched.DMA_WIDTH * fetched.DMA_HEIGHT * atom
    return _Work(
        weights=weights,
        macs=pixels * taps * (real if depthwise else real * kernels),
        cycles=pixels * taps * _passes(size.DATAIN_CHANNEL, kernels, depthwise, chip),
        read=features + operand + coefficients - hits + 8 * task.count,
        written=written,
        coefficients=coefficients - hits,
        hits=hits,
    )


def _passes(channels: int, kernels: int, depthwise: bool, chip: Chip) -> int:
    """Cycles for one tap of one output pixel: the array takes a group of channels and kernels."""
    if depthwise:
        return -(-channels // chip.depthwise_channels)
    return -(-channels // chip.weight_channels) * -(-kernels // chip.kernel_group)


def _cost(work: _Work, chip: Chip, rates: Rates, launch: float, name: str) -> Cost:
    return Cost(
        name=name,
        engine="npu",
        milliseconds={
            "array": work.cycles / rates.cycles,
            "memory": (work.read + work.written) / rates.memory,
            "launch": launch,
        },
        macs=work.macs,
        array_cycles=work.cycles,
        peak=chip.macs_per_cycle * rates.cycles,
        dram_read=work.read,
        dram_written=work.written,
        coefficient_bytes=work.coefficients,
        sram_hits=work.hits,
    )


_SUMMED = ("macs", "array_cycles", "dram_read", "dram_written", "coefficient_bytes", "sram_hits")


def _sum(first: Cost, second: Cost) -> Cost:
    times = {n: ms + second.milliseconds[n] for n, ms in first.milliseconds.items()}
    counts = {n: getattr(first, n) + getattr(second, n) for n in _SUMMED}
    return replace(first, milliseconds=times, **counts)


def _conversion(port: Port, program: RocketProgram, rates: Rates, which: str) -> Cost:
    """Between the model's layout and the NPU's, on the host."""
    plain, surfaces = port.type.size_bytes, _surfaces(port, CHIPS[program.chip])
    return Cost(
        name=f"convert {which}put",
        engine=HOST,
        milliseconds={HOST: surfaces / rates.host},
        dram_read=plain if which == "in" else surfaces,
        dram_written=surfaces if which == "in" else plain,
    )


def _surfaces(port: Port, chip: Chip) -> int:
    """Bytes of a port's tensor as it lies in the NPU's memory."""
    images, height, width, channels = port.shape
    if port.layout == "unset":
        return 0
    if port.layout == "rows":
        return images * height * port.row_pitch
    return images * height * width * -(-channels // chip.atom_channels) * chip.atom_channels
