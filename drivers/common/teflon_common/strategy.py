"""Ways to program a chip: a driver's strategies, and the device that hands all questions to one.

`exact` computes what the model says. `mesa` submits, byte for byte, what Mesa would. A strategy is
chosen by name when a device is made; nothing behind this seam asks for the name again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from teflon.errors import OptionError, did_you_mean
from teflon.ir.graph import Graph, Op
from teflon.ir.passes import Pass
from teflon.pipe import Device, Program

Chip = TypeVar("Chip")
Made = TypeVar("Made", bound=Program)

EXACT = "exact"
MESA = "mesa"


class Strategy(ABC, Generic[Chip, Made]):
    """What operations need to run, and how graphs become programs. `Chip` is the row of limits."""

    name: str

    divisible: bool = True
    """Whether parts of a feature map come out with the bits of the whole: `Device.divisible`."""

    @abstractmethod
    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        """Return why an operation cannot run; empty where it can. Never raises."""

    def doubts(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        """Return what is known to come out wrong of an operation that is taken."""
        return []

    def passes(self, chip: Chip) -> Sequence[Pass]:
        """Return what runs over a whole graph before it is cut into partitions."""
        return ()

    def veto(self, graph: Graph, chip: Chip) -> Mapping[Op, str]:
        """Return operations that cannot stay in this partition, with the reason."""
        return {}

    @abstractmethod
    def compile(self, graph: Graph, chip: Chip) -> Made:
        """Return the program. Raises UnsupportedOperation, EncodingError."""


Chosen = TypeVar("Chosen", bound=Strategy[Any, Any])


def chosen(
    driver: str,
    strategies: Mapping[str, Callable[[Mapping[str, str]], Chosen]],
    options: Mapping[str, str],
) -> Chosen:
    """Return the strategy that the option `strategy` names, made with a driver's options.

    The first one is the default. Raises OptionError for a name that is not known.
    """
    name = options.get("strategy", next(iter(strategies)))
    if name not in strategies:
        raise OptionError(
            f"{driver}: strategy is {name!r}, must be one of {', '.join(strategies)}"
            f"{did_you_mean(name, strategies)}"
        )
    return strategies[name](options)


class StrategyDevice(Device, Generic[Chip, Made]):
    """A device that asks its strategy whatever depends on how the chip is programmed."""

    def __init__(self, limits: Chip, strategy: Strategy[Chip, Made]) -> None:
        self.limits = limits
        self.strategy = strategy

    def divisible(self) -> bool:
        return self.strategy.divisible

    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        return self.strategy.reasons(op, graph, self.limits)

    def doubts(self, op: Op, graph: Graph) -> list[str]:
        return self.strategy.doubts(op, graph, self.limits)

    def passes(self) -> Sequence[Pass]:
        return self.strategy.passes(self.limits)

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        return self.strategy.veto(subgraph, self.limits)

    def compile(self, subgraph: Graph) -> Made:
        return self.strategy.compile(subgraph, self.limits)
