"""Compiled programs as text: buffers, ports, jobs, tasks, and the commands of each task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from teflon_rocket.program import RocketProgram, Task
from teflon_rocket.text import commands

Details = Callable[[Task], Iterator[str]]


def outline(program: RocketProgram) -> str:
    """Return buffers, ports, jobs and tasks, a line each."""
    return "\n".join(_lines(program, lambda _: iter(())))


def describe(program: RocketProgram) -> str:
    """Return the same, and below each task its commands with addresses by name."""
    where = {(r.buffer, r.offset): f"buffer {r.target} + {r.addend}" for r in program.relocs}
    return "\n".join(_lines(program, lambda task: _commands(program, task, where)))


def _lines(program: RocketProgram, details: Details) -> Iterator[str]:
    yield f"{program.driver} program for {program.chip}, strategy {program.strategy}"
    for number, buffer in enumerate(program.buffers):
        filled = 0 if buffer.data is None else len(buffer.data)
        yield f"buffer {number} {buffer.role} {buffer.name!r}: {buffer.size} bytes, {filled} filled"
    for what, ports in (("input", program.input_ports), ("output", program.output_ports)):
        for port in ports:
            shape = "x".join(map(str, port.type.shape))
            yield f"{what} {port.type.dtype.value} {shape}: {port.layout} in {port.buffer}"
    for number, job in enumerate(program.jobs):
        yield f"job {number} {job.name!r}: reads {job.reads}, writes {job.writes}"
        for index, task in enumerate(job.tasks):
            yield f"  task {index}: buffer {task.buffer} + {task.offset}, {task.count} words"
            yield from details(task)


def _commands(
    program: RocketProgram, task: Task, where: Mapping[tuple[int, int], str]
) -> Iterator[str]:
    """Yield a line for each command of a task; `where` names what its address becomes."""
    data = program.buffers[task.buffer].data or b""
    for place, command in enumerate(commands.decode(data[task.offset :][: 8 * task.count])):
        target = where.get((task.buffer, task.offset + 8 * place))
        yield f"    {commands.show(command)}" + (f" @ {target}" if target else "")
