"""The ways to program the chip, by name; each is imported when it is first chosen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from teflon.errors import OptionError
from teflon_common.strategy import EXACT, MESA, Strategy
from teflon_rocket.chips import Chip
from teflon_rocket.program import Job, RocketProgram, as_listed, each_once

Options = Mapping[str, str]


WITNESSED = "witnessed"
"""The option that keeps strategy `exact` to register values that somebody has recorded."""
ANY, ONLY = "any", "only"
"""Its values, the default first."""

POOLING = "pooling"
"""The option that says which units pool."""
ARRAY, BY_PPU = "array", "ppu"
"""Its values, the default first."""


def _exact(options: Options) -> Strategy[Chip, RocketProgram]:
    if options.get(WITNESSED, ANY) == ONLY:
        from teflon_rocket.exact.witnessed import Witnessed

        return Witnessed()
    from teflon_rocket.exact.strategy import Exact

    return Exact()


def _mesa(options: Options) -> Strategy[Chip, RocketProgram]:
    if options.get(WITNESSED, ANY) == ONLY:
        raise OptionError("rocket: witnessed=only is for strategy exact, not for strategy mesa")
    if options.get(POOLING, ARRAY) == BY_PPU:
        raise OptionError("rocket: pooling=ppu is for strategy exact, not for strategy mesa")
    from teflon_rocket.mesa.strategy import Mesa

    return Mesa()


STRATEGIES: Mapping[str, Callable[[Options], Strategy[Chip, RocketProgram]]] = {
    EXACT: _exact,
    MESA: _mesa,
}

BUFFER_LISTS: Mapping[str, Callable[[Job], Job]] = {EXACT: each_once, MESA: as_listed}
"""By the name of a program's strategy: which buffers its jobs name to the kernel."""
