"""Buffers of the kernel: create, map, pin, synchronise and close them; errors name the cure."""

from __future__ import annotations

import contextlib
import errno

import numpy as np
import numpy.typing as npt

from teflon import forks
from teflon.errors import DeviceError, TeflonError
from teflon.pipe import Winsys
from teflon_common import drm
from teflon_common.context import FOREVER_NS
from teflon_common.drm import GEM_CLOSE, GemClose, Request, call
from teflon_etnaviv import uapi

# Ref: docs/hardware/etnaviv.md sections 2.2, 2.3

PAGE = 4096
CURES = drm.CURES | {
    errno.EINVAL: "the kernel driver does not know this request: is it older than Linux 6.1?",
}


class AddressHeap:
    """Gives out device addresses from the top down, in whole pages."""

    def __init__(self, start: int = uapi.SOFTPIN_START, end: int = uapi.SOFTPIN_END + 1) -> None:
        self._start, self._end = start, end
        self._used: list[tuple[int, int]] = []  # (address, end), highest first
        self._lock = forks.lock()

    def allocate(self, size: int) -> int:
        """Return the highest address with room. Raises DeviceError."""
        room = -(-size // PAGE) * PAGE
        with self._lock:
            top = self._end
            for number, (address, end) in enumerate(self._used):
                if top - end >= room:
                    return self._take(number, top - room, top)
                top = address
            if top - self._start < room:
                raise DeviceError(
                    f"etnaviv: no room for {size} bytes in the NPU's address space, must fit"
                    " below 4 GiB (close other models)"
                )
            return self._take(len(self._used), top - room, top)

    def _take(self, number: int, address: int, end: int) -> int:
        self._used.insert(number, (address, end))
        return address

    def free(self, address: int) -> None:
        """Give an address back."""
        with self._lock:
            self._used = [used for used in self._used if used[0] != address]


class BufferObject:
    """A buffer of the kernel, mapped and pinned for as long as it lives."""

    def __init__(self, winsys: Winsys, heap: AddressHeap, size: int) -> None:
        """Create, map and pin a buffer. Raises DeviceError."""
        self._winsys, self._heap = winsys, heap
        made = uapi.GemNew(size=size, flags=uapi.BO_WRITE_COMBINE)
        self.handle = call(winsys, uapi.ETNAVIV, uapi.GEM_NEW, made, CURES).handle
        self.address = 0
        try:
            self.address = heap.allocate(size)
            info = uapi.GemInfo(handle=self.handle)
            offset = call(winsys, uapi.ETNAVIV, uapi.GEM_INFO, info, CURES).offset
            what = f"etnaviv mmap(handle={self.handle}, size={size})"
            view = drm.map_buffer(winsys, what, offset, size, CURES)
            self.memory: npt.NDArray[np.uint8] = np.frombuffer(view, np.uint8)
        except TeflonError:
            with contextlib.suppress(TeflonError):  # the first error is the one to report
                self.close()
            raise
        prep, fini = uapi.GemCpuPrep(handle=self.handle), uapi.GemCpuFini(handle=self.handle)
        when = ("op", "sec", "nsec")
        self._prepare = Request(winsys, uapi.ETNAVIV, uapi.GEM_CPU_PREP, prep, CURES, when)
        self._finish = Request(winsys, uapi.ETNAVIV, uapi.GEM_CPU_FINI, fini, CURES)

    def prepare(self, op: int, deadline_ns: int = FOREVER_NS) -> None:
        """Wait until the CPU may read or write. Raises DeviceTimeout, DeviceError."""
        self._prepare.send(op, *divmod(deadline_ns, 10**9))

    def finish(self) -> None:
        """Give the buffer back to the device."""
        self._finish.send()

    def close(self, busy: bool = False) -> None:
        """Drop the handle and its address.

        The address stays taken where the device may still use the buffer: it is `busy`, or the
        kernel did not close the handle. The kernel would refuse another buffer there with ENOSPC.
        """
        call(self._winsys, uapi.ETNAVIV, GEM_CLOSE, GemClose(handle=self.handle), CURES)
        if not busy:
            self._heap.free(self.address)
