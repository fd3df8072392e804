"""The RK3588's NPU as the frontends see it: what it can run, and the compiler for it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from teflon.errors import DriverUnavailable, OptionError, ProgramError
from teflon.ir.graph import Graph, Op
from teflon.ir.passes import Pass
from teflon.pipe import Cost, Data, Device, Program
from teflon_rocket import timing
from teflon_rocket.chips import CHIPS
from teflon_rocket.program import DRIVER, VERSION, RocketProgram
from teflon_rocket.strategy import DEFAULT, STRATEGIES
from teflon_rocket.text.program import describe, outline


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
        return outline(program)

    def estimate(self, program: Program) -> list[Cost]:
        if not isinstance(program, RocketProgram):
            raise ProgramError(f"rocket: cannot estimate a program of driver {program.driver}")
        return timing.costs(program)

    def describe(self, program: Program) -> str:
        """Return buffers, jobs and decoded command lists as text."""
        if not isinstance(program, RocketProgram):
            return super().describe(program)
        return describe(program)
