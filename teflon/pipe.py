"""The interface between frontends and drivers: Driver, Device, Program, Context, Winsys.

Gallium's idea in its newest form: a `Device` is a chip's description and compiles without any
hardware; a `Context` is one opened device and executes; a `Winsys` is the way to a kernel, real or
not. A frontend knows this file and the IR, never a driver; a driver the same, never a frontend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from teflon.ir.graph import Graph, Op
    from teflon.ir.types import Array, TensorType
from teflon.schedule import Timeline

Data = bytes | memoryview
"""Data that may lie in a mapped file: slices of them copy nothing, and are `Data` again."""

INTERFACE_VERSION = (1, 0)
"""(major, minor): a driver written for another major, or a higher minor, is refused."""


@dataclass(frozen=True)
class Node:
    """A device node that a driver looked at: usable when `problem` is empty."""

    path: str  # "/dev/accel/accel0"
    driver: str  # the driver plugin's name
    chip: str = ""  # "rk3588"; empty where it cannot be told
    problem: str = ""  # why it cannot be used: one sentence
    cure: str = ""  # what the user can do about it

    @property
    def usable(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Option:
    """An option that a driver takes: help text, and the values it may have (none: any text)."""

    help: str
    choices: tuple[str, ...] = ()
    default: str = ""


@dataclass(frozen=True)
class Driver(ABC):
    """What a plugin registers; describing itself must be cheap."""

    name: str
    summary: str
    chips: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    debug_flags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Flags of TEFLON_DEBUG that this driver adds: name -> help; names begin with the driver's."""
    interface: tuple[int, int] = INTERFACE_VERSION

    @abstractmethod
    def probe(self, root: str = "/") -> list[Node]:
        """Return the nodes of this machine that this driver knows, usable or not.

        Fast (under 20 ms), opens nothing it does not need, never raises for a bad node.
        `root` is where `dev`, `sys`, `proc` are looked for.
        """

    @abstractmethod
    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        """Return the description of a chip: enough to compile for it.

        Raises DriverUnavailable for a chip it does not know, OptionError for a bad option.
        """

    @abstractmethod
    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        """Open a real device. Raises DriverUnavailable or DeviceError with the cure."""

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        """Open a simulated chip; drivers without a simulator leave this as it is."""
        from teflon.errors import DriverUnavailable

        raise DriverUnavailable(f"sim:{chip}: driver {self.name} has no simulator")

    def show_recording(self, path: str, whole: bool = False) -> str:
        """Return what a recording of this driver's requests is about; `whole`: every request and
        command list as text. Raises RecordingError.

        A driver that can record takes the option `record`: the file that a context writes when it
        is closed.
        """
        from teflon.errors import RecordingError

        raise RecordingError(f"{path}: driver {self.name} reads no recordings")

    def trace_recordings(self, path: str) -> list[bytes]:
        """Return what a trace of `teflon intercept` says about nodes of this driver, as files of
        recordings: one per node that something was submitted to. Raises RecordingError.
        """
        return []

    def replay(self, path: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the submits of a recording on the simulated chip; return the outputs by name.

        `inputs` by name; those that are not given are as recorded. Raises RecordingError where the
        recording does not say what is needed, SimulatorFault.
        """
        from teflon.errors import RecordingError

        raise RecordingError(f"{path}: driver {self.name} replays no recordings")


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
        from teflon.errors import DriverUnavailable

        raise DriverUnavailable(
            f"{self.chip}: driver {self.driver} has no model of time (implement Device.estimate)"
        )

    def describe(self, program: Program) -> str:
        """Return a program as text for people: tasks and decoded command streams."""
        return f"{self.driver} program for {program.chip}: {dict(program.statistics)}"


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


class Executable(ABC):
    """A program loaded into a context: its buffers exist. Freed with `close` or the context."""

    program: Program

    @abstractmethod
    def close(self) -> None:
        """Free the buffers; a second call does nothing."""


class Fence(ABC):
    """One submitted inference."""

    @abstractmethod
    def done(self) -> bool:
        """Whether the outputs are there; does not block."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> list[Array]:
        """Return the outputs, in the program's order, when they are there.

        timeout in seconds, None for the driver's own limit. Raises DeviceTimeout, DeviceError.
        """


class Context(ABC):
    """One opened device. Safe for use from several threads: inferences are queued in order."""

    device: Device

    @abstractmethod
    def load(self, program: Program) -> Executable:
        """Upload a program. Raises ProgramError for one of another chip, DeviceError."""

    @abstractmethod
    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        """Start an inference. Inputs are C-contiguous arrays of the program's input types;
        they may be changed by the caller as soon as this returns.
        """

    def invoke(self, executable: Executable, inputs: Sequence[Array]) -> list[Array]:
        """Run an inference to its end and return its outputs (new arrays)."""
        return self.submit(executable, inputs).wait()

    @property
    def timeline(self) -> Timeline | None:
        """Return modelled time, where a simulated chip keeps it; None on silicon."""
        return None

    def again(self) -> Context:
        """Open the same node, or the same simulated chip, once more: own buffers, own address
        space, jobs on another core where one is free. Needed where `Device.cores` is not 1.

        Raises DriverUnavailable or OptionError where that cannot be, DeviceError.
        """
        from teflon.errors import DriverUnavailable

        raise DriverUnavailable(f"{self.device.chip}: driver {self.device.driver} opens it once")

    @abstractmethod
    def close(self) -> None:
        """Free everything; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Winsys(ABC):
    """How to reach a kernel: the silicon's, or a fake one in this process."""

    @abstractmethod
    def ioctl(self, request: int, argument: bytearray) -> int:
        """Do an ioctl; `argument` holds the struct and receives what the kernel writes back.

        Pointers inside the struct are real addresses of this process. Restarted on EINTR and
        EAGAIN. Raises OSError with the errno.
        """

    @abstractmethod
    def mmap(self, offset: int, size: int) -> memoryview:
        """Map a buffer object: a writable view of `size` bytes. Raises OSError."""

    @property
    def timeline(self) -> Timeline | None:
        """Return modelled time, where a fake kernel keeps it; None on silicon."""
        return None

    def again(self) -> Winsys:
        """Open the same node once more. Raises OSError, OptionError where it cannot be."""
        from teflon.errors import OptionError

        raise OptionError(f"{type(self).__name__}: is opened once, cannot be opened again")

    @abstractmethod
    def close(self) -> None:
        """Close the node: mappings die with it; a second call does nothing."""
