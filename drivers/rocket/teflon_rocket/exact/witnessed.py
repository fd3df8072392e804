"""Strategy `exact` kept to what a board has run: register values that somebody has recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from teflon.errors import LimitExceeded, UnsupportedOperation
from teflon.ir.graph import Graph, Op
from teflon_rocket.chips import Chip
from teflon_rocket.exact.strategy import Exact, alone
from teflon_rocket.program import RocketProgram
from teflon_rocket.witnesses import Fact, unwitnessed


class Witnessed(Exact):
    """Takes only operations whose command lists have nothing but witnessed values."""

    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        """Return the reasons of `exact`, or the values without a witness in the lists of `op`."""
        return super().reasons(op, graph, chip) or [
            _reason(found.fact) for found in unwitnessed(super().compile(alone(op), chip))
        ]

    def veto(self, graph: Graph, chip: Chip) -> Mapping[Op, str]:
        """Return operations that together with others become lists with unwitnessed values."""
        try:
            program = super().compile(graph, chip)
        except (UnsupportedOperation, LimitExceeded):
            return {}  # that is said when it is compiled
        refused: dict[Op, str] = {}
        for found in unwitnessed(program):
            for op in _of(graph, found.operations):
                refused.setdefault(op, _reason(found.fact))
        return refused

    def compile(self, graph: Graph, chip: Chip) -> RocketProgram:
        """Return the program of a graph. Raises UnsupportedOperation, also for its values."""
        program = super().compile(graph, chip)
        for found in unwitnessed(program):
            raise UnsupportedOperation(_of(graph, found.operations)[0].title, [_reason(found.fact)])
        return program


def _of(graph: Graph, names: Sequence[str]) -> Sequence[Op]:
    """Return the operations that parts of a program with such names come from."""
    named = [op for op in graph.ops if any(name.startswith(op.where) for name in names)]
    return named or graph.ops


def _reason(fact: Fact) -> str:
    return f"no recording has {fact} (option witnessed=only)"
