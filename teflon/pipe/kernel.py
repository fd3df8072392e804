"""Kernels that a virtual board serves to other programs: device nodes, open files, requests."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def refuse(code: int) -> OSError:
    """Return the OSError of an errno, with which a request fails."""
    return OSError(code, os.strerror(code))


class Caller(ABC):
    """The process that makes a request: its memory and its file descriptors.

    All methods raise OSError: EFAULT for a bad address, EBADF for a bad descriptor.
    """

    @property
    def pid(self) -> int:
        """The process id; 0 if it is not known."""
        return 0

    def waits(self) -> bool:
        """Whether the process still waits for the answer: it may have been killed."""
        return True

    @abstractmethod
    def read(self, pointer: int, size: int) -> bytes:
        """Return `size` bytes of the caller's memory."""

    @abstractmethod
    def write(self, pointer: int, data: bytes) -> None:
        """Store bytes in the caller's memory."""

    @abstractmethod
    def give(self, descriptor: int, stays: bool = False) -> int:
        """Give the caller a copy of a descriptor of this process; return the caller's number.

        stays: the copy stays open when the caller runs another program (no close-on-exec).
        """

    @abstractmethod
    def take(self, number: int) -> int:
        """Return a copy of the caller's descriptor `number`; who asks must close it."""


class Complaints(list[str]):
    """Texts of which the first ones are kept; `lost` counts the others."""

    KEPT = 1000
    lost = 0

    def append(self, text: str) -> None:
        if len(self) < self.KEPT:
            super().append(text)
        else:
            self.lost += 1

    def clear(self) -> None:
        super().clear()
        self.lost = 0


class OpenFile(ABC):
    """One open file of a device node. Several threads may use it."""

    @abstractmethod
    def ioctl(self, request: int, argument: bytearray, caller: Caller) -> int:
        """Answer a request. `argument` is read, and gets the answer. Raises OSError."""

    @abstractmethod
    def memory(self, offset: int, size: int) -> tuple[int, int]:
        """Return (descriptor, offset) of the memory that an mmap of this file maps.

        The descriptor stays this file's own. Raises OSError.
        """

    @abstractmethod
    def close(self) -> None:
        """Release everything; jobs may hang, and their program is gone: do not wait for them."""

    @abstractmethod
    def status(self) -> dict[str, int]:
        """Return how many `handles` are open, and `bytes` of their buffers."""

    def recording(self) -> bytes | None:
        """Return the recording of all requests; None if the file was not opened to record, or
        submitted no job.
        """
        return None


class Kernel(ABC):
    """The kernel driver of one device node."""

    name: str
    """What the request VERSION answers: `rocket`."""
    complaints: list[str]
    """Misuse that the real kernel accepts in silence, and jobs that failed."""
    real_time: bool = False
    """Whether a job takes at least its modelled time."""
    before_job: Callable[[Callable[[], bool]], bool] | None = None
    """Called before each job, with a function that says whether the job is over: its program is
    gone, or the driver has ended it. It may block until then. If it returns True the job breaks off
    half way.
    """

    @abstractmethod
    def open(self, record: bool = False, primary: bool = False) -> OpenFile:
        """Open the node; primary: the one of the display, /dev/dri/cardN. Raises OSError."""

    @abstractmethod
    def request_name(self, request: int) -> str:
        """Return the name of a request, `SUBMIT`, or its number in hexadecimal."""

    @abstractmethod
    def decode(self, request: int, argument: bytes | bytearray) -> str:
        """Return a request and the fields of its argument as text."""

    def file_ioctl(self, descriptor: int, request: int, argument: bytearray, caller: Caller) -> int:
        """Answer a request to a file that is no node: a dma_buf or a sync file of this kernel.

        `descriptor` is a copy of the caller's. Raises OSError; ENOTTY if the file is none of this
        kernel's.
        """
        raise refuse(errno.ENOTTY)


@dataclass(frozen=True)
class VirtualNode:
    """A device node of a virtual board, and what /sys says of it.

    kind: "accel" for /dev/accel/accelN, "render" for /dev/dri/renderDN.
    device: the platform device that owns the node, "rknn".
    driver: the kernel driver that is bound to this device; "" for none.
    files: further files by their path below the root, without the first slash.
    """

    kind: str
    kernel: Kernel
    device: str
    driver: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
