"""What the DRM core answers for every driver: the requests of `drm_core`, and PRIME.

Ref: Linux, drivers/gpu/drm/drm_ioctl.c (drm_version, drm_getcap, drm_getclient, ...)
Ref: Linux, drivers/gpu/drm/drm_prime.c (PRIME_*), drm_gem.c (handles, mmap)
"""

from __future__ import annotations

import errno
import itertools
import os
from abc import abstractmethod
from typing import ClassVar

from teflon_common import drm_core as core
from teflon_common.caller import (
    caller_pid,
    copy_from_user,
    copy_to_user,
    give_descriptor,
    refuse,
    taken_descriptor,
)
from teflon_common.drm import GEM_CLOSE, VERSION, GemClose, Version
from teflon_common.fake_buffers import BufferObject
from teflon_common.fake_files import (
    MemoryFile,
    exporter,
    find_memory,
    note_exported,
)
from teflon_common.fake_master import FakeFile, MasterRequests, answers

_LONGEST_NAME = 64
"""Bytes of a client's name. Ref: Linux, include/uapi/drm/drm.h (DRM_CLIENT_NAME_MAX_LEN)."""
_OVERFLOW_UID = 65534
_IMPORT, _EXPORT = 1, 2

_devices = itertools.count(1)


class CoreRequests(MasterRequests):
    """Answers the requests of the DRM core.

    `node` is the kind of the driver's nodes, "render" or "accel". `numbers` are major, minor and
    patch level. `imports`: whether the driver takes dma_bufs of other devices.
    """

    description: ClassVar[str] = ""
    node: ClassVar[str] = "render"
    imports: ClassVar[bool] = False

    complaints: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.device = f"{self.name}-{next(_devices)}"

    @abstractmethod
    def drop_handle(self, file: FakeFile, handle: int) -> None:
        """Close a handle."""

    @abstractmethod
    def import_memory(self, file: FakeFile, memory: MemoryFile, ours: bool) -> BufferObject:
        """Return a new buffer with a handle over the memory of a dma_buf. Raises OSError.

        ours: a buffer of this device had the memory before.
        """

    @answers(VERSION)
    def version(self, file: FakeFile, argument: Version) -> None:
        """Write the texts into the caller's buffers as far as they fit; none ends with a zero."""
        major, minor, patch = self.numbers
        argument.version_major, argument.version_minor = major, minor
        argument.version_patchlevel = patch
        for field, text in (("name", self.name), ("date", "0"), ("desc", self.description)):
            data, room = text.encode(), getattr(argument, f"{field}_len")
            setattr(argument, f"{field}_len", len(data))
            if getattr(argument, field):
                copy_to_user(getattr(argument, field), data[:room])

    @answers(core.GET_CLIENT)
    def get_client(self, file: FakeFile, argument: core.GetClient) -> None:
        """Tell of the caller, as client 0; there are no others."""
        if argument.idx:
            raise refuse(errno.EINVAL)
        argument.auth, argument.magic, argument.iocs = int(file.authenticated), 0, 0
        argument.pid, argument.uid = caller_pid(), _OVERFLOW_UID

    @answers(core.GET_STATS)
    def get_stats(self, file: FakeFile, argument: core.GetStats) -> None:
        argument.count = 0

    @answers(core.GET_CAP)
    def get_cap(self, file: FakeFile, argument: core.GetCap) -> None:
        """Tell what the driver can do; all other capabilities need a display."""
        argument.value = 0
        values = {
            core.CAP_PRIME: _IMPORT | _EXPORT,  # whatever the driver can
            core.CAP_TIMESTAMP_MONOTONIC: 1,
            core.CAP_SYNCOBJ: 0,
            core.CAP_SYNCOBJ_TIMELINE: 0,
        }
        if argument.capability not in values:
            raise refuse(errno.EOPNOTSUPP)
        argument.value = values[argument.capability]

    @answers(core.SET_CLIENT_NAME)
    def set_client_name(self, file: FakeFile, argument: core.SetClientName) -> None:
        """Keep a name of visible ASCII characters; none if its length is 0."""
        if argument.name_len > _LONGEST_NAME:
            raise refuse(errno.EINVAL)
        name = copy_from_user(argument.name, argument.name_len)
        if not all(0x21 <= byte <= 0x7E for byte in name):
            raise refuse(errno.EINVAL)
        file.name = name.decode()

    @answers(GEM_CLOSE)
    def gem_close(self, file: FakeFile, argument: GemClose) -> None:
        """Drop a handle; EINVAL for an unknown one, as in drm_gem_handle_delete."""
        with self.lock:
            if argument.handle not in file.handles:
                raise refuse(errno.EINVAL)
            self.drop_handle(file, argument.handle)

    @answers(core.PRIME_HANDLE_TO_FD)
    def prime_handle_to_fd(self, file: FakeFile, argument: core.PrimeHandle) -> None:
        """Give the caller a dma_buf; the first export decides whether it can be written."""
        if argument.flags & ~(core.CLOEXEC | core.RDWR):
            raise refuse(errno.EINVAL)
        with self.lock:
            bo = file.lookup(argument.handle)
            if bo.file is None:
                self.complaints.append(
                    f"PRIME_HANDLE_TO_FD: handle {argument.handle} is memory of this process, must"
                    " be a buffer of a virtual board (teflon board) to become a dma_buf"
                )
                raise refuse(errno.EOPNOTSUPP)
            if bo.file.writable is None:
                bo.file.writable = bool(argument.flags & core.RDWR)
                note_exported(bo.file, bo)
            descriptor = bo.file.opened(bo.file.writable)
        try:
            argument.fd = give_descriptor(descriptor, not argument.flags & core.CLOEXEC)
        finally:
            os.close(descriptor)

    @answers(core.PRIME_FD_TO_HANDLE)
    def prime_fd_to_handle(self, file: FakeFile, argument: core.PrimeHandle) -> None:
        """Give a dma_buf a handle: the same each time, and for all who have the same buffer."""
        with taken_descriptor(argument.fd) as descriptor, self.lock:
            if (exported_by := exporter(descriptor)) is None:
                raise refuse(errno.EINVAL)
            memory = find_memory(descriptor)
            if memory is not None and (known := file.find_handle(memory)) is not None:
                argument.handle = known
                return
            bo = None if memory is None else memory.buffer()
            ours = exported_by == self.device
            if ours and bo is not None:
                argument.handle = self.add_handle(file, bo)
                self.shared(file, bo)
                return
            if not ours and not self.imports:
                raise refuse(errno.EINVAL)
            if memory is None:  # only programs have it now
                memory = MemoryFile(0, of=descriptor)
            new = self.import_memory(file, memory, ours)
            argument.handle = new.handle
            if bo is None:
                note_exported(memory, new)
