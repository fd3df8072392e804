"""Running programs: a context is one opened device, a winsys is the access to its kernel."""

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
    """A program that is loaded into a context, with its buffers.

    `close` frees them, and so does closing the context.
    """

    program: Program

    @abstractmethod
    def close(self) -> None:
        """Free the buffers; a second call does nothing."""


class Fence(ABC):
    """One submitted inference."""

    @abstractmethod
    def done(self) -> bool:
        """Whether the inference has ended; does not block."""

    @abstractmethod
    def wait(self, timeout: float | None = None) -> list[Array]:
        """Wait for the end of the inference and return the outputs, in the program's order.

        `timeout` is in seconds; None stands for the driver's own limit. Raises DeviceTimeout,
        DeviceError.
        """


class Context(ABC):
    """One opened device. Several threads may use it; inferences run in the order of `submit`."""

    device: Device

    @abstractmethod
    def load(self, program: Program) -> Executable:
        """Upload a program. Raises ProgramError for a program of another chip, DeviceError."""

    @abstractmethod
    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        """Start an inference.

        Inputs are C-contiguous arrays of the program's input types. The caller may change them as
        soon as this returns.
        """

    def invoke(self, executable: Executable, inputs: Sequence[Array]) -> list[Array]:
        """Run an inference to its end and return its outputs, as new arrays."""
        return self.submit(executable, inputs).wait()

    @property
    def timeline(self) -> Timeline | None:
        """Return the modelled time of a simulated chip; None on silicon or without such a model."""
        return None

    def again(self) -> Context:
        """Open the same node, or the same simulated chip, once more.

        The new context has its own buffers and its own address space; its jobs run on another core
        if one is free. Drivers whose `Device.cores` is not 1 must implement this. Raises
        DriverUnavailable or OptionError if it is not possible, DeviceError.
        """
        raise DriverUnavailable(
            f"{self.device.chip}: driver {self.device.driver} cannot open it a second time"
        )

    @abstractmethod
    def close(self) -> None:
        """Free the device and all loaded programs; a second call does nothing."""

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
    """The access to a kernel: that of the silicon, or a fake one in this process."""

    @abstractmethod
    def ioctl(self, request: int, argument: bytearray) -> int:
        """Do an ioctl; `argument` holds the struct, into which the kernel writes its answer.

        Pointers inside the struct are real addresses of this process. The call is repeated on EINTR
        and EAGAIN. Raises OSError with the errno.
        """

    @abstractmethod
    def mmap(self, offset: int, size: int) -> memoryview:
        """Map a buffer object and return a writable view of `size` bytes. Raises OSError."""

    @property
    def timeline(self) -> Timeline | None:
        """Return the modelled time of a fake kernel; None on silicon or without such a model."""
        return None

    def again(self) -> Winsys:
        """Open the same node once more. Raises OSError, OptionError if it is not possible."""
        raise OptionError(f"{type(self).__name__}: cannot be opened a second time")

    @abstractmethod
    def close(self) -> None:
        """Close the node; a second call does nothing. Do not use its mappings after that."""
