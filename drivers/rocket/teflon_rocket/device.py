"""The RK3588's NPU as the frontends see it: what it can run, and the compiler for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from teflon.errors import DriverUnavailable, ProgramError
from teflon.pipe import Cost, Data, Program
from teflon_common.strategy import StrategyDevice, chosen
from teflon_rocket.chips import CHIPS, Chip
from teflon_rocket.program import DRIVER, VERSION, RocketProgram
from teflon_rocket.strategies import ANY, ARRAY, BY_PPU, POOLING, STRATEGIES, WITNESSED
from teflon_rocket.text.program import describe, outline


class RocketDevice(StrategyDevice[Chip, RocketProgram]):
    """One chip of the family; stateless."""

    driver = DRIVER

    def __init__(self, chip: str, options: Mapping[str, str] | None = None) -> None:
        """Raises DriverUnavailable for a chip that is not known, OptionError for a bad option."""
        if chip not in CHIPS:
            raise DriverUnavailable(f"rocket: chip is {chip!r}, must be one of {', '.join(CHIPS)}")
        given = options or {}
        self.pooling = given.get(POOLING, ARRAY)
        limits = dataclasses.replace(CHIPS[chip], ppu=self.pooling == BY_PPU)
        super().__init__(limits, chosen(DRIVER, STRATEGIES, given))
        self.chip = chip
        self.cores = self.limits.cores
        self.witnessed = given.get(WITNESSED, ANY)

    def signature(self) -> str:
        kept = "" if self.witnessed == ANY else f" {WITNESSED}={self.witnessed}"
        units = "" if self.pooling == ARRAY else f" {POOLING}={self.pooling}"
        return f"{VERSION} {self.strategy.name}{kept}{units}"

    def load(self, data: Data) -> RocketProgram:
        return RocketProgram.from_bytes(data, self.chip)

    def estimate(self, program: Program) -> list[Cost]:
        if not isinstance(program, RocketProgram):
            raise ProgramError(f"rocket: cannot estimate a program of driver {program.driver}")
        from teflon_rocket import timing  # for estimates only

        return timing.costs(program)

    def outline(self, program: Program) -> str:
        """Return buffers, jobs and tasks as text."""
        if not isinstance(program, RocketProgram):
            return super().outline(program)
        return outline(program)

    def describe(self, program: Program) -> str:
        """Return buffers, jobs and decoded command lists as text."""
        if not isinstance(program, RocketProgram):
            return super().describe(program)
        return describe(program)
