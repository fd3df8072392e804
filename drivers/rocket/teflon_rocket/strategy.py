"""The seam between ways to program the chip: `exact` computes what the model says, `mesa` what Mesa
26.2.6 would have programmed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from teflon.errors import LimitExceeded
from teflon.ir.graph import Graph, Op
from teflon.ir.lower import FoldPad, fuse_activations, remove_dead
from teflon.ir.passes import Pass
from teflon_rocket import lower, mesa
from teflon_rocket.assemble import Arrange, Assembler
from teflon_rocket.chips import Chip
from teflon_rocket.coefs import pack_weights, pack_weights_mesa
from teflon_rocket.pack import apart, together
from teflon_rocket.program import RocketProgram
from teflon_rocket.regcmd import strict, wrapping
from teflon_rocket.tasks import split_mesa


class Strategy(ABC):
    """What an operation needs to run, and the program of a graph."""

    name: str

    @abstractmethod
    def reasons(self, op: Op, chip: Chip) -> list[str]:
        """Return why an operation cannot run; never raises."""

    def doubts(self, op: Op) -> list[str]:
        """Return what is known to come out wrong of an operation."""
        return []

    def passes(self, chip: Chip) -> Sequence[Pass]:
        """Return what runs over a whole graph before it is cut into partitions."""
        return ()

    def veto(self, graph: Graph) -> Mapping[Op, str]:
        """Return operations that cannot stay in this partition."""
        return {}

    @abstractmethod
    def compile(self, graph: Graph, chip: Chip) -> RocketProgram:
        """Return the program. Raises UnsupportedOperation, EncodingError."""


class Exact(Strategy):
    """Equal to Mesa's program wherever that is right, but for where things lie and how many jobs
    run them; `alike`: in this as well, to compare programs.
    """

    name = "exact"

    def __init__(self, alike: bool = False) -> None:
        self._arrange: Arrange = apart if alike else together
        self._chained = not alike

    def reasons(self, op: Op, chip: Chip) -> list[str]:
        return lower.reasons(op, chip)

    def passes(self, chip: Chip) -> Sequence[Pass]:
        """The CNA pads as it fetches, and the DPU clamps as it writes: both cost nothing."""
        pad = FoldPad(lambda op: not lower.reasons(op, chip))
        return (pad, fuse_activations, remove_dead)

    def compile(self, graph: Graph, chip: Chip) -> RocketProgram:
        operations, splits = lower.lower(graph, chip)
        assembler = Assembler(
            chip.name, self.name, pack_weights, strict, True, self._arrange, self._chained
        )
        return assembler.program(graph, operations, splits)


class Mesa(Strategy):
    """Byte for byte what Mesa 26.2.6 submits."""

    name = "mesa"

    def reasons(self, op: Op, chip: Chip) -> list[str]:
        return mesa.reasons(op)

    def doubts(self, op: Op) -> list[str]:
        return mesa.doubts(op)

    def veto(self, graph: Graph) -> Mapping[Op, str]:
        return mesa.veto(graph)

    def compile(self, graph: Graph, chip: Chip) -> RocketProgram:
        operations = mesa.lower(graph, chip)
        splits = [split_mesa(op, chip) for op in operations]
        for op, split in zip(operations, splits, strict=True):
            if not split.tiles:
                raise LimitExceeded(
                    f"{op.name}: Mesa splits for ever, a kernel's rows must fit the convolution"
                    " buffer (strategy exact can)"
                )
        assembler = Assembler(chip.name, self.name, pack_weights_mesa, wrapping, once=False)
        return assembler.program(graph, operations, splits)


STRATEGIES: Mapping[str, Strategy] = {s.name: s for s in (Exact(), Mesa())}
DEFAULT = "exact"
