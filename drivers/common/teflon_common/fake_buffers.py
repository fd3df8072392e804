"""Buffers of fake kernels: their memory, and the addresses at which a device sees them."""

from __future__ import annotations

import bisect
import contextlib
import errno
import mmap
from typing import Any

from teflon_common.caller import refuse
from teflon_common.fake_fences import Reservation
from teflon_common.fake_files import MemoryFile

PAGE = 4096
LARGE = 1 << 21
"""Bytes from which a buffer asks for large pages, which reduce page faults to a hundredth."""


def pages(size: int) -> int:
    """Return a size rounded up to whole pages."""
    return -(-size // PAGE) * PAGE


def _memory(size: int) -> mmap.mmap:
    """Return zeroed pages of this process; large ones if the kernel supports them."""
    memory = mmap.mmap(-1, pages(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= LARGE:
        with contextlib.suppress(OSError):  # some kernels are built without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class BufferObject:
    """A buffer of whole pages, filled with zeros; `references` counts handles and running jobs.

    `reservation` holds the fences of its users: a kernel adds those of its jobs, and its jobs wait
    for those that are there. `fence` belongs to the kernel.

    `files` has all open files that ever had a handle, and how many they have now; the first one
    made the buffer, its address space has the `address`. `imported`: another device made
    the memory.

    `device` is the memory that the hardware sees. It is the same as `cpu`, unless the kernel
    simulates a machine without coherent caches: then only its synchronisation copies between both.
    """

    def __init__(
        self,
        size: int,
        offset: int,
        coherent: bool,
        file: MemoryFile | None = None,
    ) -> None:
        """file: the memory, which other processes can map; else it is this process's own."""
        self.size = size
        self.handle = 0
        self.address = 0
        self.offset = offset
        self.references = 1
        self.file = file
        self.cpu = mmap.mmap(file.number, pages(size)) if file else _memory(size)
        self.device = self.cpu if coherent else _memory(size)
        self.fence: Any = None
        self.reservation = file.reservation if file else Reservation()
        self.imported = False
        self.files: dict[Any, int] = {}

    @property
    def mapped_bytes(self) -> int:
        return pages(self.size)

    def made_by(self, file: object) -> bool:
        """Whether an open file made the buffer, so that its address space has the address."""
        return next(iter(self.files), None) is file

    def sync_for_cpu(self) -> None:
        """Make the device's writes visible to the CPU."""
        if self.device is not self.cpu:
            self.cpu[:] = self.device[:]

    def sync_for_device(self) -> None:
        """Make the CPU's writes visible to the device."""
        if self.device is not self.cpu:
            self.device[:] = self.cpu[:]


class AddressSpace:
    """Device addresses of one open file.

    A buffer gets the lowest gap that fits, page aligned, with `guard` bytes between buffers.
    """

    def __init__(self, start: int, end: int, guard: int) -> None:
        self._start, self._end, self._guard = start, end, guard
        self._used: list[tuple[int, int]] = []

    def allocate(self, size: int, at: int | None = None) -> int:
        """Return an address for `size` bytes, or exactly `at` if given. Raises OSError ENOSPC."""
        first = self._start if at is None else at
        for begin, end in self._used:
            if begin - self._guard - first >= size:
                break
            first = max(first, end) if at is None else first
            if at is not None and begin < at + size and at < end:
                raise refuse(errno.ENOSPC)
        if self._end - first < size:
            raise refuse(errno.ENOSPC)
        bisect.insort(self._used, (first, pages(first + size) + self._guard))
        return first

    def free(self, address: int) -> None:
        """Release an address."""
        self._used = [u for u in self._used if u[0] != address]
