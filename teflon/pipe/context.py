"""One opened device: programs are loaded into it and run. And the way to its kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from teflon.errors import DriverUnavailable, OptionError

if TYPE_CHECKING:
    from teflon.ir.types import Array
    from teflon.pipe.device import Device, Program
    from teflon.pipe.timeline import Timeline


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
        raise OptionError(f"{type(self).__name__}: is opened once, cannot be opened again")

    @abstractmethod
    def close(self) -> None:
        """Close the node: mappings die with it; a second call does nothing."""
