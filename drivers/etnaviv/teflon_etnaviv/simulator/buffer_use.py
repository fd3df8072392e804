"""What the kernel keeps of a buffer object beside its memory: caching, user memory, addresses."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from teflon.errors import SimulatorFault
from teflon_common.caller import caller_pid, copy_from_user, copy_to_user
from teflon_common.fake_drm import BufferObject, refuse
from teflon_etnaviv import uapi


@dataclass
class UserMemory:
    """Memory of a program that is a buffer. The simulator works on a copy.

    The copy is made when a submit lists the buffer. What a job wrote goes back with the next
    request of the same program and open file, so before any wait for the job returns.
    """

    pointer: int
    size: int
    writable: bool
    pid: int
    changed: bool = False  # a job wrote into the copy

    def fetch(self, bo: BufferObject) -> None:
        """Copy the program's memory into the buffer. Raises OSError EFAULT, EPERM.

        Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem.c (etnaviv_gem_userptr_get_pages)
        """
        if caller_pid() != self.pid:
            raise refuse(errno.EPERM)
        bo.device[: self.size] = copy_from_user(self.pointer, self.size)

    def give_back(self, bo: BufferObject) -> None:
        """Copy what a job wrote into the program's memory. Raises OSError EFAULT."""
        if self.changed and caller_pid() == self.pid:
            self.changed = False
            copy_to_user(self.pointer, bytes(bo.device[: self.size]))


@dataclass
class Use:
    """The state of a buffer object.

    active: how many submits use it that have not ended. fault: how the last one ended, if it
    failed.
    """

    cache: int = uapi.BO_WRITE_COMBINE
    empty: bool = False  # of size 0: has no pages
    user: UserMemory | None = None
    prepared: int = 0  # the operation of the last GEM_CPU_PREP
    active: int = 0
    fault: SimulatorFault | None = None


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
