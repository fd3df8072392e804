"""The family's NPUs as the frontends see them: what they can run, and the compiler for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from teflon.errors import ProgramError
from teflon.pipe import Cost, Data, Program
from teflon_common.strategy import EXACT, MESA, StrategyDevice, chosen
from teflon_etnaviv import chips
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.program import DRIVER, VERSION, EtnavivProgram
from teflon_etnaviv.strategy import EtnavivStrategy


class EtnavivDevice(StrategyDevice[Chip, EtnavivProgram]):
    """One chip of the family; stateless."""

    driver = DRIVER
    strategy: EtnavivStrategy

    def __init__(self, chip: str, options: Mapping[str, str] | None = None) -> None:
        """Raises DriverUnavailable for a chip that is not known, OptionError for a bad option."""
        strategy = chosen(DRIVER, _STRATEGIES, options or {})
        super().__init__(strategy.described(chips.chip(chip)), strategy)
        self.chip = chip

    def signature(self) -> str:
        return f"{VERSION} {self.strategy.signature}"

    def load(self, data: Data) -> EtnavivProgram:
        return EtnavivProgram.from_bytes(data, self.chip)

    def outline(self, program: Program) -> str:
        """Return buffers and ports as text, and what is started in which order."""
        if not isinstance(program, EtnavivProgram):
            return super().outline(program)
        from teflon_etnaviv.program_text import outline  # for people only

        return outline(program)

    def estimate(self, program: Program) -> list[Cost]:
        if not isinstance(program, EtnavivProgram):
            raise ProgramError(f"etnaviv: cannot estimate a program of driver {program.driver}")
        from teflon_etnaviv.timing import costs  # for estimates only

        return costs(program)

    def describe(self, program: Program) -> str:
        """Return buffers, instructions and the decoded command stream as text."""
        if not isinstance(program, EtnavivProgram):
            return super().describe(program)
        from teflon_etnaviv.program_text import describe

        return describe(program)


def _exact(options: Mapping[str, str]) -> EtnavivStrategy:
    from teflon_etnaviv.exact.strategy import ExactStrategy  # only the strategy that is chosen

    return ExactStrategy(options)


def _mesa(options: Mapping[str, str]) -> EtnavivStrategy:
    from teflon_etnaviv.mesa.strategy import MesaStrategy

    return MesaStrategy(options)


_STRATEGIES: Mapping[str, Callable[[Mapping[str, str]], EtnavivStrategy]] = {
    EXACT: _exact,
    MESA: _mesa,
}
