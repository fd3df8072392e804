"""Strategies: the ways in which a driver can program a chip, and a device that uses one of them.

`exact` computes what the model says. `mesa` submits the same bytes as Mesa. The option `strategy`
chooses one by name when a device is made; after that, no code depends on the name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, TypeVar

from teflon.errors import OptionError, did_you_mean
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.passes import Pass
from teflon.pipe import Device, Program

Chip = TypeVar("Chip")
Made = TypeVar("Made", bound=Program)

EXACT = "exact"
MESA = "mesa"


class Strategy(ABC, Generic[Chip, Made]):
    """The limits of operations, and the compiler, for one way to program a chip.

    `Chip` is the class with the chip's limits.
    """

    name: str

    divisible: bool = True
    """The answer of `Device.divisible`."""

    @abstractmethod
    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        """Return the reasons why an operation cannot run; empty if it can. Never raises."""

    def doubts(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        """Return what is known to come out wrong in a supported operation: `Device.doubts`."""
        return []

    def notes(self, graph: Graph, chip: Chip) -> Sequence[str]:
        """Return lines about how a partition is computed: `Device.notes`."""
        return ()

    def passes(self, chip: Chip) -> Sequence[Pass]:
        """Return the passes for a whole graph before partitioning: `Device.passes`."""
        return ()

    def veto(self, graph: Graph, chip: Chip) -> Mapping[Op, str]:
        """Return the operations that cannot stay in this partition, with the reason for each."""
        return {}

    def leave(self, graph: Graph, model: Graph, chip: Chip) -> Mapping[Op, str]:
        """Return the operations of a partition that take longer here than on the next device, with
        the reason for each: `Device.leave`.
        """
        return {}

    def undivided(self, op: Op) -> Collection[str]:
        """Return along what an operation must stay whole: `Device.undivided`."""
        return ()

    def absorbed(self, graph: Graph, chip: Chip) -> Collection[Value] | None:
        """Return the values that the operations behind them take over: `Device.absorbed`."""
        return None

    @abstractmethod
    def compile(self, graph: Graph, chip: Chip) -> Made:
        """Return the program of a graph. Raises UnsupportedOperation, EncodingError."""


Chosen = TypeVar("Chosen", bound=Strategy[Any, Any])


def chosen(
    driver: str,
    strategies: Mapping[str, Callable[[Mapping[str, str]], Chosen]],
    options: Mapping[str, str],
) -> Chosen:
    """Make the strategy that the option `strategy` names, with the options of the driver.

    The first strategy is the default. Raises OptionError for an unknown name.
    """
    name = options.get("strategy", next(iter(strategies)))
    if name not in strategies:
        raise OptionError(
            f"{driver}: strategy is {name!r}, must be one of {', '.join(strategies)}"
            f"{did_you_mean(name, strategies)}"
        )
    return strategies[name](options)


class StrategyDevice(Device, Generic[Chip, Made]):
    """A device that gets all answers about operations and programs from its strategy."""

    def __init__(self, limits: Chip, strategy: Strategy[Chip, Made]) -> None:
        self.limits = limits
        self.strategy = strategy

    def divisible(self) -> bool:
        return self.strategy.divisible

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return self.strategy.reasons(op, graph, self.limits)

    def doubts(self, op: Op, graph: Graph) -> list[str]:
        return self.strategy.doubts(op, graph, self.limits)

    def notes(self, subgraph: Graph) -> Sequence[str]:
        return self.strategy.notes(subgraph, self.limits)

    def passes(self) -> Sequence[Pass]:
        return self.strategy.passes(self.limits)

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        return self.strategy.veto(subgraph, self.limits)

    def leave(self, subgraph: Graph, model: Graph) -> Mapping[Op, str]:
        return self.strategy.leave(subgraph, model, self.limits)

    def undivided(self, op: Op) -> Collection[str]:
        return self.strategy.undivided(op)

    def absorbed(self, subgraph: Graph) -> Collection[Value] | None:
        return self.strategy.absorbed(subgraph, self.limits)

    def compile(self, subgraph: Graph) -> Made:
        return self.strategy.compile(subgraph, self.limits)
