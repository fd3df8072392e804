"""Strategy mesa: submits, byte for byte, what Mesa 26.2.6 would, with its mistakes."""

from __future__ import annotations

from collections.abc import Mapping

from teflon.errors import OptionError
from teflon.ir.graph import Graph, Op
from teflon_common.strategy import EXACT, MESA
from teflon_etnaviv import variants
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.emission import build
from teflon_etnaviv.mesa.doubts import doubts
from teflon_etnaviv.mesa.limits import LIMITS
from teflon_etnaviv.mesa.lowering import Lowering
from teflon_etnaviv.mesa.memory import apart
from teflon_etnaviv.mesa.rules import RULES
from teflon_etnaviv.program import EtnavivProgram
from teflon_etnaviv.strategy import EtnavivStrategy


class MesaStrategy(EtnavivStrategy):
    """Takes what Mesa takes; says beforehand what is known to come out wrong."""

    name = MESA

    def __init__(self, options: Mapping[str, str]) -> None:
        """Raises OptionError for a format that Mesa does not write."""
        for option in variants.wanted(options):
            raise OptionError(f"option {option}: strategy is {MESA}, must be {EXACT}")

    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return RULES.reasons(op, LIMITS)

    def doubts(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return doubts(op, graph, chip)

    def compile(self, graph: Graph, chip: Chip) -> EtnavivProgram:
        """Raises EncodingError, and UnsupportedOperation for an operation that no rule lowers."""
        return build(graph, Lowering(graph, chip).run(RULES), chip, self.name, apart)
