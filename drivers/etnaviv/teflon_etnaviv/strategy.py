"""What the driver's strategies have in common; each has a package of its own: `exact`, `mesa`."""

from __future__ import annotations

from teflon_common.strategy import Strategy
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.program import EtnavivProgram


class EtnavivStrategy(Strategy[Chip, EtnavivProgram]):
    """A way to program the family's chips."""

    def described(self, chip: Chip) -> Chip:
        """Return a chip as the options want it. Raises OptionError where they do not fit it."""
        return chip

    @property
    def signature(self) -> str:
        """The strategy's name, with the options that decide over programs."""
        return self.name
