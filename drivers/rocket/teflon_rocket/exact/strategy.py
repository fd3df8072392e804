"""Strategy `exact`: programs that compute what the model says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from teflon.errors import LimitExceeded, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.lower import (
    FoldFlatten,
    FoldPad,
    FoldSpaceToBatch,
    FoldTables,
    fuse_activations,
    order_operations,
    remove_dead,
)
from teflon.ir.ops import AveragePool2D
from teflon.ir.passes import Pass
from teflon.ir.types import NO_PADDING
from teflon_common.strategy import EXACT, Strategy
from teflon_rocket.assemble import Assembler
from teflon_rocket.chips import Chip
from teflon_rocket.exact.ends import not_worth_it
from teflon_rocket.exact.layers import Weighted
from teflon_rocket.exact.lower import hosts, lower
from teflon_rocket.exact.partial import is_whole
from teflon_rocket.exact.rules import RULES
from teflon_rocket.jobs import chained
from teflon_rocket.memory import together
from teflon_rocket.operations.commands import strict
from teflon_rocket.program import RocketProgram

PACKED = Assembler(strict, together, chained)
"""Few buffers and few jobs."""

_ROUNDED_ONCE = 3
"""Side of windows whose mean one convolution makes, over the edge or not."""


class Exact(Strategy[Chip, RocketProgram]):
    """Equal to Mesa's program wherever that is right, but for where things lie and how many jobs
    run them: that is the assembler's.
    """

    name = EXACT

    def __init__(self, assembler: Assembler = PACKED) -> None:
        self._assembler = assembler

    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return reasons(op, chip)

    def passes(self, chip: Chip) -> Sequence[Pass]:
        """The CNA pads and spreads kernels as it fetches and takes a whole map for a row, the DPU
        clamps as it writes: that costs nothing. A chain of functions of one byte is one table.
        """

        def accepts(op: Op) -> bool:
            return not reasons(op, chip)

        maps = (FoldSpaceToBatch(accepts), FoldPad(accepts), FoldFlatten(accepts))
        return (*maps, fuse_activations, FoldTables(accepts), remove_dead, order_operations)

    def leave(self, graph: Graph, model: Graph, chip: Chip) -> Mapping[Op, str]:
        return not_worth_it(graph, model, chip)

    def undivided(self, op: Op) -> Collection[str]:
        """Weights of several scales are brought to one that depends on all of them. Where large
        windows reach over the edge, a mean is rounded twice; in other rows of the map once.
        """
        if isinstance(op, AveragePool2D):
            small = max(op.kernel) <= _ROUNDED_ONCE or op.padding == NO_PADDING
            return () if small else ("rows",)
        if isinstance(op, Weighted):
            alone = op.weights.type.quantization
            one = alone is not None and len(set(alone.scales)) == 1
            return () if one and is_whole(op) else ("channels",)
        return ()

    def absorbed(self, graph: Graph, chip: Chip) -> Collection[Value]:
        return [value for op in hosts(graph) for value in op.results]

    def compile(self, graph: Graph, chip: Chip) -> RocketProgram:
        for op in graph.ops:
            if broken := RULES.reasons(op, chip):
                raise UnsupportedOperation(op.title, broken)
        lowered = lower(graph, chip)
        return self._assembler.program(graph, lowered.operations, chip, self.name, lowered.parts)


def reasons(op: Op, chip: Chip) -> list[str]:
    """Return why an operation cannot run; empty where it can.

    Whether its numbers can be expressed and its tasks fit is known when it is lowered.
    """
    if broken := RULES.reasons(op, chip):
        return broken
    try:
        lower(alone(op), chip)
    except LimitExceeded as error:
        return [error.reason]
    return []


def alone(op: Op) -> Graph:
    """Return a graph of one operation."""
    return Graph("", tuple(v for v in op.inputs_present if not v.is_constant), op.results, (op,))
