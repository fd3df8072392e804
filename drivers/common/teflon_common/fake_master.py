"""What the DRM core answers on primary nodes, /dev/dri/cardN: masters and GEM names.

On other nodes permission is missing for most of this (`drm_core.permits`). No caller is root.

Ref: Linux, drivers/gpu/drm/drm_auth.c, drm_ioctl.c (drm_setversion, drm_getunique), drm_gem.c
(drm_gem_flink_ioctl, drm_gem_open_ioctl)
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from teflon_common import drm_core as core
from teflon_common.caller import copy_to_user, refuse
from teflon_common.fake_buffers import AddressSpace, BufferObject
from teflon_common.fake_files import MemoryFile
from teflon_common.structs import Ioctl

Handler = TypeVar("Handler", bound=Callable[..., int | None])

_INTERFACE = 1, 4
"""Version of the interface that SET_VERSION asks for."""


def answers(ioctl: Ioctl) -> Callable[[Handler], Handler]:
    """Mark a method as the answer to a request: `(self, file, argument) -> int | None`."""

    def mark(method: Handler) -> Handler:
        method.answers = ioctl  # type: ignore[attr-defined]
        return method

    return mark


@dataclass
class Master:
    """Clients of a primary node that trust each other; `unique` is the bus, once asked for."""

    unique: str = ""
    magics: dict[int, FakeFile | None] = field(default_factory=dict)


class FakeFile:
    """One open file: its handles and its address space. `name` is what SET_CLIENT_NAME said.

    `master` is the one of a file of a primary node, else None. `leads`: the file is that master
    itself; `led`: it once was.
    """

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self.handles: dict[int, BufferObject] = {}
        self.closed = False
        self.name = ""
        self.master: Master | None = None
        self.leads = self.led = self.authenticated = False
        self.magic = 0

    def lookup(self, handle: int) -> BufferObject:
        """Return a buffer by handle. Raises OSError ENOENT."""
        if handle not in self.handles:
            raise refuse(errno.ENOENT)
        return self.handles[handle]

    def find_handle(self, memory: MemoryFile) -> int | None:
        """Return the handle of a dma_buf that this file has already."""
        return next((h for h, bo in self.handles.items() if bo.file is memory), None)

    def lowest_free_handle(self) -> int:
        """Return the handle for a new buffer: the kernel takes the lowest free one, from 1 on."""
        return lowest_free(self.handles)


def lowest_free(used: dict[int, Any]) -> int:
    """Return the lowest number from 1 on that is not used, as idr_alloc does."""
    return next(i for i in range(1, len(used) + 2) if i not in used)


class MasterRequests(ABC):
    """Answers the requests for which a file of a primary node is needed."""

    name: ClassVar[str] = ""
    numbers: ClassVar[tuple[int, int, int]] = (0, 0, 0)
    lock: Any

    def __init__(self) -> None:
        self._master: Master | None = None
        self._names: dict[int, BufferObject] = {}

    @abstractmethod
    def complain(self, text: str) -> None:
        """Report misuse that the real kernel accepts or ignores silently."""

    @abstractmethod
    def add_handle(self, file: FakeFile, bo: BufferObject) -> int:
        """Give a file a handle of a buffer of this device."""

    @abstractmethod
    def shared(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a file has got a handle of a buffer that another one of this device made."""

    def make_primary(self, file: FakeFile) -> None:
        """Make an open file one of the primary node; the first one becomes master."""
        with self.lock:
            if self._master is None:
                self._lead(file)
            file.master = self._master

    def _lead(self, file: FakeFile) -> None:
        self._master = file.master = Master()
        file.leads = file.led = file.authenticated = True

    def leave_primary(self, file: FakeFile) -> None:
        """Forget what a file of a primary node was to the others."""
        if file.master is not None:
            file.master.magics.pop(file.magic, None)
        if self.is_master(file):
            self._master = None

    def is_master(self, file: FakeFile) -> bool:
        """Whether a file is the current master."""
        return file.leads and file.master is self._master

    def may(self, flags: int, file: FakeFile) -> bool:
        """Whether a file of the primary node may make a request with these flags."""
        if flags & core.ROOT or (flags & core.AUTH and not file.authenticated):
            return False
        return not flags & core.MASTER or self.is_master(file)

    def forget_name(self, bo: BufferObject) -> None:
        """Forget the name of a buffer that has no handle any more."""
        self._names = {name: other for name, other in self._names.items() if other is not bo}

    @answers(core.GET_UNIQUE)
    def get_unique(self, file: FakeFile, argument: core.GetUnique) -> None:
        if file.master is None:
            raise self._crash("GET_UNIQUE")
        data, room = file.master.unique.encode(), argument.unique_len
        if room >= len(data):
            copy_to_user(argument.unique, data)
        argument.unique_len = len(data)

    @answers(core.GET_MAGIC)
    def get_magic(self, file: FakeFile, argument: core.Auth) -> None:
        if file.master is None:
            raise self._crash("GET_MAGIC")
        with self.lock:
            if not file.magic:
                file.magic = lowest_free(file.master.magics)
                file.master.magics[file.magic] = file
            argument.magic = file.magic

    def _crash(self, request: str) -> OSError:
        """Return the error of a request that has no answer without a master."""
        self.complain(
            f"{request}: on an accel node the real kernel follows a null pointer (there is no"
            " master), must be sent to a primary node"
        )
        return refuse(errno.EINVAL)

    @answers(core.AUTH_MAGIC)
    def auth_magic(self, file: FakeFile, argument: core.Auth) -> None:
        assert file.master is not None, "only a master may ask"
        with self.lock:
            client = file.master.magics.get(argument.magic)
            if client is None:
                raise refuse(errno.EINVAL)
            client.authenticated = True
            file.master.magics[argument.magic] = None

    @answers(core.SET_VERSION)
    def set_version(self, file: FakeFile, argument: core.SetVersion) -> None:
        """Check the wanted versions of interface and driver, -1 for any; then tell the bus."""
        assert file.master is not None, "only a master may ask"
        wanted = argument.di_major, argument.di_minor
        driver = argument.dd_major, argument.dd_minor
        argument.di_major, argument.di_minor = _INTERFACE
        argument.dd_major, argument.dd_minor, _ = self.numbers
        if wanted[0] != -1:
            if wanted[0] != _INTERFACE[0] or not 0 <= wanted[1] <= _INTERFACE[1]:
                raise refuse(errno.EINVAL)
            if wanted[1] >= 1:
                file.master.unique = self.name
        if driver[0] != -1 and (
            driver[0] != self.numbers[0] or not 0 <= driver[1] <= self.numbers[1]
        ):
            raise refuse(errno.EINVAL)

    @answers(core.SET_MASTER)
    def set_master(self, file: FakeFile, argument: core.Unread) -> None:
        with self.lock:
            if not file.led:
                raise refuse(errno.EACCES)
            if self.is_master(file):
                return
            if self._master is not None:
                raise refuse(errno.EBUSY)
            self._lead(file)

    @answers(core.DROP_MASTER)
    def drop_master(self, file: FakeFile, argument: core.Unread) -> None:
        with self.lock:
            if not file.led:
                raise refuse(errno.EACCES)
            if not self.is_master(file):
                raise refuse(errno.EINVAL)
            self._master, file.leads = None, False

    @answers(core.GEM_FLINK)
    def gem_flink(self, file: FakeFile, argument: core.GemFlink) -> None:
        """Give a buffer a name, the same each time."""
        with self.lock:
            bo = file.lookup(argument.handle)
            found = next((name for name, other in self._names.items() if other is bo), 0)
            argument.name = found or lowest_free(self._names)
            self._names[argument.name] = bo

    @answers(core.GEM_OPEN)
    def gem_open(self, file: FakeFile, argument: core.GemOpen) -> None:
        """Give a file one more handle of the buffer with a name."""
        with self.lock:
            if (bo := self._names.get(argument.name)) is None:
                raise refuse(errno.ENOENT)
            argument.handle, argument.size = self.add_handle(file, bo), bo.mapped_bytes
            if not bo.made_by(file):
                self.shared(file, bo)
