"""The ways to program the chip, by name; each is imported when it is first chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from teflon_common.strategy import EXACT, MESA, Strategy
from teflon_rocket.chips import Chip
from teflon_rocket.program import Job, RocketProgram, as_listed, each_once

Options = Mapping[str, str]


def _exact(_options: Options) -> Strategy[Chip, RocketProgram]:
    from teflon_rocket.exact.strategy import Exact

    return Exact()


def _mesa(_options: Options) -> Strategy[Chip, RocketProgram]:
    from teflon_rocket.mesa.strategy import Mesa

    return Mesa()


STRATEGIES: Mapping[str, Callable[[Options], Strategy[Chip, RocketProgram]]] = {
    EXACT: _exact,
    MESA: _mesa,
}

BUFFER_LISTS: Mapping[str, Callable[[Job], Job]] = {EXACT: each_once, MESA: as_listed}
"""By the name of a program's strategy: which buffers its jobs name to the kernel."""
