"""The RK3588's NPU as the frontends see it: what it can run, and the compiler for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from teflon.errors import DriverUnavailable, OptionError, ProgramError
from teflon.ir.graph import Graph, Op
from teflon.ir.passes import Pass
from teflon.pipe import Cost, Data, Device, Program
from teflon_rocket import regtext, timing
from teflon_rocket.chips import CHIPS
from teflon_rocket.program import DRIVER, VERSION, RocketProgram, Task
from teflon_rocket.strategy import DEFAULT, STRATEGIES


class RocketDevice(Device):
    """One chip of the family; stateless."""

    driver = DRIVER

    def __init__(self, chip: str, options: Mapping[str, str] | None = None) -> None:
        """Raises DriverUnavailable for a chip that is not known, OptionError for a bad option."""
        if chip not in CHIPS:
            raise DriverUnavailable(f"rocket: chip is {chip!r}, must be one of {', '.join(CHIPS)}")
        name = (options or {}).get("strategy", DEFAULT)
        if name not in STRATEGIES:
            near = difflib.get_close_matches(name, STRATEGIES, 1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise OptionError(
                f"rocket: strategy is {name!r}, must be one of {', '.join(STRATEGIES)}{hint}"
            )
        self.chip = chip
        self.limits = CHIPS[chip]
        self.strategy = STRATEGIES[name]
        self.cores = self.limits.cores

    def divisible(self) -> bool:
        """Mesa takes maps that are not square for others (docs/hardware/rocket.md §10.1)."""
        return self.strategy.name != "mesa"

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return self.strategy.reasons(op, self.limits)

    def doubts(self, op: Op, graph: Graph) -> list[str]:
        return self.strategy.doubts(op)

    def passes(self) -> Sequence[Pass]:
        return self.strategy.passes(self.limits)

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        return self.strategy.veto(subgraph)

    def compile(self, subgraph: Graph) -> RocketProgram:
        return self.strategy.compile(subgraph, self.limits)

    def signature(self) -> str:
        return f"{VERSION} {self.strategy.name}"

    def load(self, data: Data) -> RocketProgram:
        return RocketProgram.from_bytes(data, self.chip)

    def outline(self, program: Program) -> str:
        """Return buffers, jobs and tasks as text."""
        if not isinstance(program, RocketProgram):
            return super().outline(program)
        return describe(program, commands=False)

    def estimate(self, program: Program) -> list[Cost]:
        if not isinstance(program, RocketProgram):
            raise ProgramError(f"rocket: cannot estimate a program of driver {program.driver}")
        return timing.costs(program)

    def describe(self, program: Program) -> str:
        """Return buffers, jobs and decoded command lists as text."""
        if not isinstance(program, RocketProgram):
            return super().describe(program)
        return describe(program)


def describe(program: RocketProgram, commands: bool = True) -> str:
    """Return a program as text: buffers, jobs, every task's commands with addresses by name."""
    lines = [f"{program.driver} program for {program.chip}, strategy {program.strategy}"]
    for number, buffer in enumerate(program.buffers):
        filled = 0 if buffer.data is None else len(buffer.data)
        lines.append(
            f"buffer {number} {buffer.role} {buffer.name!r}: {buffer.size} bytes, {filled} filled"
        )
    for what, ports in (("input", program.input_ports), ("output", program.output_ports)):
        for port in ports:
            shape = "x".join(map(str, port.type.shape))
            lines.append(f"{what} {port.type.dtype.value} {shape}: {port.layout} in {port.buffer}")
    where = {(r.buffer, r.offset): f"buffer {r.target} + {r.addend}" for r in program.relocs}
    for number, job in enumerate(program.jobs):
        lines.append(f"job {number} {job.name!r}: reads {job.reads}, writes {job.writes}")
        for index, task in enumerate(job.tasks):
            lines.append(
                f"  task {index}: buffer {task.buffer} + {task.offset}, {task.count} words"
            )
            if commands:
                lines += _commands(program, task, where)
    return "\n".join(lines)


def _commands(
    program: RocketProgram, task: Task, where: Mapping[tuple[int, int], str]
) -> list[str]:
    """Return a task's commands, a line for each; `where` names what their addresses become."""
    data = program.buffers[task.buffer].data or b""
    lines = []
    for place, command in enumerate(regtext.decode(data[task.offset :][: 8 * task.count])):
        target = where.get((task.buffer, task.offset + 8 * place))
        lines.append(f"    {regtext.show(command)}" + (f" @ {target}" if target else ""))
    return lines
