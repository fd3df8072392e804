"""A chip's description: what it can run, the compiler for it, and what programs cost on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from teflon.errors import DriverUnavailable

if TYPE_CHECKING:
    from teflon.ir.graph import Graph, Op, Value
    from teflon.ir.types import TensorType

Data = bytes | memoryview
"""Bytes that may lie in a mapped file; a slice of them is `Data` again and copies nothing."""

HOST = "host"
"""The engine, and the resource, of work that the host does for a device, such as conversions."""
MEMORY = "memory"
"""The resource that the cores of a chip may share: see `Cost.milliseconds`."""


@dataclass(frozen=True)
class Cost:
    """What one step of a program costs on its chip, by the driver's model of time.

    Counts come from the program, milliseconds are predictions.
    """

    name: str
    engine: str  # the unit of the chip that does the step, or `host`
    milliseconds: Mapping[str, float]
    """Resource (`array`, `memory`, `launch`, `host`) -> its part of the step's time."""
    macs: int = 0  # multiply-accumulates of the operation, without padded channels
    array_cycles: int = 0  # cycles in which the array is busy, padding included
    peak: float = 0.0  # multiply-accumulates that the array can do in a millisecond
    dram_read: int = 0  # bytes
    dram_written: int = 0
    coefficient_bytes: int = 0  # the part of dram_read that is weights and biases
    sram_hits: int = 0  # bytes that come from on-chip memory instead of DRAM

    @property
    def total_ms(self) -> float:
        return sum(self.milliseconds.values())

    @property
    def limit(self) -> str:
        """The resource that takes the largest part of the time; empty if the time is 0."""
        times = self.milliseconds
        return max(times, key=lambda name: times[name]) if self.total_ms > 0 else ""

    @property
    def utilisation(self) -> float:
        """The share of the array's peak that the step uses, 0 to 1."""
        possible = self.peak * self.total_ms
        return self.macs / possible if possible else 0.0


class Program(ABC):
    """A compiled subgraph. It is immutable, depends on no address, and can be saved as bytes."""

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
        """Further lines about the program for reports, beside its statistics."""
        return ()

    @abstractmethod
    def to_bytes(self) -> bytes:
        """Return the program as bytes for `Device.load`.

        They contain magic, format version, driver version, chip, checksum and content.
        """


class Device(ABC):
    """The description of one chip, its limits, and the compiler for it.

    It needs no hardware, has no state, and several threads may use it.
    """

    driver: str
    chip: str
    cores: int = 1
    """Cores that run jobs of different open files at the same time."""

    def divisible(self) -> bool:
        """Whether parts of a feature map (rows, channels) come out with the same bits as the whole
        map.
        """
        return True

    @abstractmethod
    def unsupported(self, op: Op, graph: Graph) -> list[str]:
        """Return the reasons why an operation cannot run here; empty if it can. Never raises."""

    def doubts(self, op: Op, graph: Graph) -> list[str]:
        """Return what this device is known to compute wrong in an operation that it supports.

        `graph` is the partition that the operation is in.
        Strategies that keep another driver's mistakes implement this: users are warned, nothing is
        refused. The answer must not depend on the content of constants. Never raises.
        """
        return []

    def notes(self, subgraph: Graph) -> Sequence[str]:
        """Return lines about how a partition is computed, for `teflon check` and `teflon compare`;
        never raises. Since 1.2.
        """
        return ()

    def passes(self) -> Sequence[Callable[[Graph], Graph]]:
        """Return passes that run over the whole graph before it is cut into partitions.

        They rewrite the graph so that this device can run more of it, for example by moving an
        operation into its neighbour. The CPU must compute the same bits for the new graph.
        """
        return ()

    def veto(self, subgraph: Graph) -> Mapping[Op, str]:
        """Return the operations that cannot stay in this partition, with the reason for each.

        The subgraph is a whole partition of operations that `unsupported` accepts. Partitioning
        moves the named operations to the next device and asks again, until this returns nothing.
        """
        return {}

    def leave(self, subgraph: Graph, model: Graph) -> Mapping[Op, str]:
        """Return the operations that the next device should run although this one could, with the
        reason for each: with the copies around them they would take longer here.

        The subgraph is a partition of `model` in which nothing is vetoed. Partitioning asks again
        after it has moved the named operations, until this returns nothing. Since 1.2.
        """
        return {}

    def undivided(self, op: Op) -> Collection[str]:
        """Return along what an operation must stay whole where several cores share an inference,
        "rows" or "channels" or both: parts of it would not have the same bits. Since 1.2.
        """
        return ()

    def absorbed(self, subgraph: Graph) -> Collection[Value] | None:
        """Return the values that no program of this partition holds, because the operation that
        reads one is done together with the one that makes it; None where that is not known.

        Both together must be within one step of the reference, as one operation. Since 1.2.
        """
        return None

    @abstractmethod
    def compile(self, subgraph: Graph) -> Program:
        """Return the program of a subgraph.

        Raises EncodingError if the hardware cannot express it, UnsupportedOperation for an
        operation that `unsupported` refuses.
        """

    def signature(self) -> str | None:
        """Return the part of the compile cache's key that depends on the compiler: its version and
        options. None: programs of this device must not be cached.
        """
        return None

    @abstractmethod
    def load(self, data: Data) -> Program:
        """Return the program that `Program.to_bytes` wrote; it may keep views of `data`.

        Raises ProgramError if the bytes are damaged or made for another chip, driver or version;
        the text names both.
        """

    def outline(self, program: Program) -> str:
        """Return the parts of a program as text, without its commands: buffers, jobs, tasks."""
        counts = ", ".join(f"{number} {name}" for name, number in program.statistics.items())
        return f"{self.driver} program for {program.chip}: {counts}"

    def estimate(self, program: Program) -> Sequence[Cost]:
        """Return the predicted cost of each step of a program, in order.

        Raises DriverUnavailable if the driver has no model of time for this chip, ProgramError for
        a program of another driver.
        """
        raise DriverUnavailable(
            f"{self.chip}: driver {self.driver} has no model of time (implement Device.estimate)"
        )

    def describe(self, program: Program) -> str:
        """Return a program as text: tasks and decoded command streams."""
        return f"{self.driver} program for {program.chip}: {dict(program.statistics)}"
