"""A model of time for rocket programs, read off the command lists that the chip is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from teflon.ir.graph import Graph
from teflon.pipe import HOST, Cost
from teflon_rocket.chips import CHIPS, RATES, Chip, Rates
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import strict
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.program import COMMANDS, Job, Port, RocketProgram, Task
from teflon_rocket.work import Work, work

_WORD = 8


def costs(program: RocketProgram, rates: Rates | None = None) -> list[Cost]:
    """Return one cost for each operation, between those of the host's conversions."""
    chip = CHIPS[program.chip]
    rates = rates or RATES[program.chip]
    steps = [_converted(port, chip, rates, "in") for port in program.input_ports]
    steps += _operations(program, chip, rates)
    return steps + [_converted(port, chip, rates, "out") for port in program.output_ports]


def predicted(graph: Graph, operations: Sequence[Operation], chip: Chip) -> Iterator[Cost]:
    """Yield a cost for each task of a graph's operations, as `costs` has it of their program in one
    job, and one for each conversion of the host. No program is made.
    """
    rates, launch = RATES[chip.name], RATES[chip.name].job
    for operation in operations:
        lists = command_lists(operation, strict)
        words = np.frombuffer(lists.data, "<u8")
        for one in lists.lists:
            first = one.offset // _WORD
            done = work(words[first : first + one.words].tolist(), chip, operation.name)
            yield _cost(done, chip, rates, launch, operation.name)
            launch = 0.0
    layouts = {f.value: f.layout for operation in operations for f in operation.features}
    for which, values in (("in", graph.inputs), ("out", graph.outputs)):
        for value in values:
            layout = layouts.get(value, "surfaces")
            pitch = value.shape[-2] if layout == "rows" else 0
            yield _converted(Port(value.type, 0, layout, row_pitch=pitch), chip, rates, which)


def _operations(program: RocketProgram, chip: Chip, rates: Rates) -> list[Cost]:
    found: list[Cost] = []
    constants = _constants(program)
    last: tuple[str, Sequence[object]] = "", ()
    for job in program.jobs:
        for number, (task, name) in enumerate(zip(job.tasks, _names(job), strict=True)):
            done = work(_words(program, task), chip, name)
            cost = _cost(done, chip, rates, 0.0 if number else rates.job, name)
            places = range(task.offset, task.offset + 8 * task.count, 8)
            key = name, [constants.get((task.buffer, place)) for place in places]
            if key == last:  # parts of one operation have its name, but other constants
                found[-1] = _sum(found[-1], cost)
            else:
                found.append(cost)
            last = key
    return found


def _words(program: RocketProgram, task: Task) -> list[int]:
    data = program.buffers[task.buffer].data or b""
    words: list[int] = np.frombuffer(data, "<u8", task.count, task.offset).tolist()
    return words


def _constants(program: RocketProgram) -> dict[tuple[int, int], tuple[int, int]]:
    """Return where words hold the address of a constant, and where that constant is."""
    filled = [b.data is not None and b.role != COMMANDS for b in program.buffers]
    return {(r.buffer, r.offset): (r.target, r.addend) for r in program.relocs if filled[r.target]}


def _names(job: Job) -> Sequence[str]:
    """Return the operation of each task; the job's own name where none are known."""
    names = job.task_names
    return names if len(names) == len(job.tasks) else (job.name,) * len(job.tasks)


def _cost(done: Work, chip: Chip, rates: Rates, launch: float, name: str) -> Cost:
    return Cost(
        name=name,
        engine="npu",
        milliseconds={
            "array": done.cycles / rates.cycles,
            "memory": (done.read + done.written) / rates.memory,
            "launch": launch,
        },
        macs=done.macs,
        array_cycles=done.cycles,
        peak=chip.macs_per_cycle * rates.cycles,
        dram_read=done.read,
        dram_written=done.written,
        coefficient_bytes=done.coefficients,
        sram_hits=done.hits,
    )


_SUMMED = ("macs", "array_cycles", "dram_read", "dram_written", "coefficient_bytes", "sram_hits")


def _sum(first: Cost, second: Cost) -> Cost:
    times = {n: ms + second.milliseconds[n] for n, ms in first.milliseconds.items()}
    counts = {n: getattr(first, n) + getattr(second, n) for n in _SUMMED}
    return replace(first, milliseconds=times, **counts)


def _converted(port: Port, chip: Chip, rates: Rates, which: str) -> Cost:
    """Between the model's layout and the NPU's, on the host."""
    plain, surfaces = port.type.size_bytes, _surfaces(port, chip)
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
