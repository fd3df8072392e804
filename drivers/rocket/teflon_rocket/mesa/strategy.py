"""Strategy `mesa`: byte for byte what Mesa 26.2.6 submits."""

from __future__ import annotations

from collections.abc import Mapping

from teflon.ir.graph import Graph, Op
from teflon_common.strategy import MESA, Strategy
from teflon_rocket.assemble import Assembler
from teflon_rocket.chips import Chip
from teflon_rocket.mesa.doubts import doubts
from teflon_rocket.mesa.fields import wrapping
from teflon_rocket.mesa.jobs import mesa_jobs
from teflon_rocket.mesa.lower import lower
from teflon_rocket.mesa.memory import apart
from teflon_rocket.mesa.rules import RULES
from teflon_rocket.mesa.veto import veto
from teflon_rocket.program import RocketProgram

ASSEMBLER = Assembler(wrapping, apart, mesa_jobs)


class Mesa(Strategy[Chip, RocketProgram]):
    """Mesa's programs, mistakes included; where Mesa crashes, the operation is refused."""

    name = MESA
    divisible = False
    """Mesa takes maps that are not square for others (docs/hardware/rocket.md §10.1)."""

    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return RULES.reasons(op, chip)

    def doubts(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return doubts(op)

    def veto(self, graph: Graph, chip: Chip) -> Mapping[Op, str]:
        return veto(graph)

    def compile(self, graph: Graph, chip: Chip) -> RocketProgram:
        return ASSEMBLER.program(graph, lower(graph, chip), chip, self.name)
