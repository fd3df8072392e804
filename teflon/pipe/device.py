"""One chip as its driver describes it: what it can run, and the compiler for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teflon.errors import DriverUnavailable

if TYPE_CHECKING:
    from teflon.ir.graph import Graph, Op
    from teflon.ir.types import TensorType

Data = bytes | memoryview
"""Data that may lie in a mapped file: slices of them copy nothing, and are `Data` again."""

HOST = "host"
"""The engine of what the host does for a device, such as conversions, and its resource."""
MEMORY = "memory"
"""The resource that cores may have to share: see Cost."""


@dataclass(frozen=True)
class Cost:
    """What one step of a program costs on its chip, by the driver's model of time.

    Counts come from the program; milliseconds are predictions. Data move between DRAM and chip;
    `sram_hits` are bytes that on-chip memory saved from being read again.
    """

    name: str
    engine: str  # what does it: the chip's unit, or `host`
    milliseconds: Mapping[str, float]
    """By resource (`array`, `memory`, `launch`, `host`); they add up to the step's time."""
    macs: int = 0  # multiply-accumulates that the chip is asked for, padded channels left out
    array_cycles: int = 0  # cycles in which the array is busy, padding included
    peak: float = 0.0  # multiply-accumulates that the array could do in a millisecond
    dram_read: int = 0
    dram_written: int = 0
    coefficient_bytes: int = 0  # of dram_read: weights and biases as they lie in memory
    sram_hits: int = 0

    @property
    def total_ms(self) -> float:
        return sum(self.milliseconds.values())

    @property
    def limit(self) -> str:
        """The resource that takes the largest part of the time; empty where there is none."""
        times = self.milliseconds
        return max(times, key=lambda name: times[name]) if self.total_ms > 0 else ""

    @property
    def utilisation(self) -> float:
        """Share of the array's peak that the asked-for work uses, 0 to 1."""
        possible = self.peak * self.total_ms
        return self.macs / possible if possible else 0.0


class Program(ABC):
    """A compiled subgraph: position independent, immutable, serialisable."""

    driver: str
    chip: str
    inputs: Sequence[TensorType]
    outputs: Sequence[TensorType]

    @property
    @abstractmethod
    def statistics(self) -> Mapping[str, int]:
        """Counts and sizes: at least tasks, jobs, command_words, coefficient_bytes, macs."""

    @property
    def remarks(self) -> Sequence[str]:
        """What reports say about the program beside its statistics: a line each."""
        return ()

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return magic, format version, driver version, chip, checksum and content."""


class Device(ABC):
    """One chip, real or not: its name, its limits, and the compiler for it.

    Stateless and safe for use from several threads.
    """

    driver: str
    chip: str
    cores: int = 1
    """Cores that run jobs of different open files at the same time."""

    def divisible(self) -> bool:
        """Return whether parts of a feature map (rows, channels) come out with the same bits as
        the whole map.
        """
        return True

    @abstractmethod
    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        """Return why an operation cannot run here; empty where it can. Never raises."""

    def doubts(self, op: Op, graph: Graph) -> list[str]:
        """Return what is known to come out wrong of an operation that this device takes.

        For strategies that keep another driver's mistakes: users are warned, nothing is refused.
        Must not need the content of constants. Never raises.
        """
        return []

    def passes(self) -> Sequence[Callable[[Graph], Graph]]:
        """Return passes for whole graphs, run before they are cut into partitions.

        For rewrites that let this device take more: an operation that a neighbour can do on the
        way, another form of the same thing. The CPU computes what they make to the same bits.
        """
        return ()

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        """Return operations that cannot stay in this partition, with the reason.

        Asked with whole partitions of operations that `unsupported` accepted; partitioning tries
        again without the named ones until nothing is vetoed.
        """
        return {}

    @abstractmethod
    def compile(self, subgraph: Graph) -> Program:
        """Return what the chip executes for this subgraph.

        Raises EncodingError where the hardware cannot express it, UnsupportedOperation for an
        operation that `unsupported` refuses.
        """

    def signature(self) -> str | None:
        """Return what decides over the program beside chip and subgraph: the compiler's version
        and options. Programs of a device that says None are not kept in the compile cache.
        """
        return None

    @abstractmethod
    def load(self, data: Data) -> Program:
        """Return the program that `to_bytes` wrote; it may keep views of `data`.

        Raises ProgramError where the bytes are damaged or made for another chip, driver or
        version; both sides are named.
        """

    def outline(self, program: Program) -> str:
        """Return what a program consists of, without its commands: buffers, jobs, tasks."""
        counts = ", ".join(f"{number} {name}" for name, number in program.statistics.items())
        return f"{self.driver} program for {program.chip}: {counts}"

    def estimate(self, program: Program) -> Sequence[Cost]:
        """Return what the program's steps cost, in order, by a model of this chip.

        Raises DriverUnavailable where the driver has no model of it, ProgramError for a program
        of another driver.
        """
        raise DriverUnavailable(
            f"{self.chip}: driver {self.driver} has no model of time (implement Device.estimate)"
        )

    def describe(self, program: Program) -> str:
        """Return a program as text for people: tasks and decoded command streams."""
        return f"{self.driver} program for {program.chip}: {dict(program.statistics)}"
