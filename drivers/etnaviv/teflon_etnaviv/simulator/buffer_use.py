"""What the kernel keeps of a buffer object beside its memory: fences, caching, user memory."""

from __future__ import annotations

import errno
from concurrent.futures import Future
from dataclasses import dataclass, field

from teflon_common.caller import copy_from_user, copy_to_user
from teflon_common.fake_drm import BufferObject, refuse
from teflon_etnaviv import uapi
from teflon_etnaviv.simulator.address_map import AddressMap

End = Future[None]
"""When a submit has ended; its fault, if it had one."""


@dataclass
class UserMemory:
    """Memory of a program that is a buffer. The simulator works on a copy.

    The copy is made when a submit lists the buffer. What a job wrote goes back with the next request
    of the same open file, so before any wait for the job returns.
    """

    pointer: int
    size: int
    writable: bool
    changed: bool = False  # a job wrote into the copy

    def fetch(self, bo: BufferObject) -> None:
        """Copy the program's memory into the buffer. Raises OSError EFAULT."""
        bo.device[: self.size] = copy_from_user(self.pointer, self.size)

    def give_back(self, bo: BufferObject) -> None:
        """Copy what a job wrote into the program's memory. Raises OSError EFAULT."""
        if self.changed:
            self.changed = False
            copy_to_user(self.pointer, bytes(bo.device[: self.size]))


@dataclass
class Use:
    """The state of a buffer object.

    reads, writes: submits that use it, as their lists say. active: how many have not ended. maps:
    the address spaces that it has an address in.
    """

    cache: int = uapi.BO_WRITE_COMBINE
    empty: bool = False  # of size 0: has no pages
    user: UserMemory | None = None
    prepared: int = 0  # the operation of the last GEM_CPU_PREP
    active: int = 0
    reads: list[End] = field(default_factory=list)
    writes: list[End] = field(default_factory=list)
    maps: list[AddressMap] = field(default_factory=list)

    def ends(self, write: bool) -> list[End]:
        """Return the ends to wait for before reading, or before writing.

        Ref: Linux, include/linux/dma-resv.h (dma_resv_usage_rw)
        """
        return [*self.writes, *self.reads] if write else list(self.writes)

    def add(self, end: End, write: bool) -> None:
        """Add a submit's end. Those before it are forgotten once they have come."""
        self.reads = [e for e in self.reads if not e.done()]
        self.writes = [e for e in self.writes if not e.done()]
        (self.writes if write else self.reads).append(end)


def use_of(bo: BufferObject) -> Use:
    """Return the state of a buffer object."""
    if bo.fence is None:
        bo.fence = Use()
    use: Use = bo.fence
    return use


def pages_of(bo: BufferObject) -> None:
    """Fill a buffer with what it is a view of, as before every use of its pages.

    Raises OSError EFAULT for memory that the program does not have, and for a buffer without pages:
    there the real kernel reads beyond an empty table, and the program dies.
    """
    use = use_of(bo)
    if use.empty:
        raise refuse(errno.EFAULT)
    if use.user is not None and not (use.active or use.user.changed):
        use.user.fetch(bo)
