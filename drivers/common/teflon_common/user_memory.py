"""The memory of the process that sends a request to a fake kernel.

That is this process, unless the kernel serves another one: it then answers inside `caller_memory`,
so that `copy_from_user` and `copy_to_user` access the memory of the other process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator
from typing import Protocol


def refuse(code: int) -> OSError:
    """Return the OSError of an errno, with which a request fails."""
    return OSError(code, os.strerror(code))


class UserMemory(Protocol):
    """The memory of a process. Bad addresses raise OSError EFAULT."""

    def read(self, pointer: int, size: int) -> bytes:
        """Return `size` bytes."""

    def write(self, pointer: int, data: bytes) -> None:
        """Store bytes."""


Reader = Callable[[int, int], bytes]
"""A function that returns memory: (address, size) -> bytes."""

_LARGEST = 1 << 31
"""A size that the kernel refuses to copy."""

_libc = ctypes.CDLL(None, use_errno=True)


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _OwnMemory:
    """The memory of this process; the kernel checks the addresses."""

    def read(self, pointer: int, size: int) -> bytes:
        target = ctypes.create_string_buffer(size)
        if not self._copy("process_vm_readv", ctypes.addressof(target), pointer, size):
            return ctypes.string_at(pointer, size)  # a sandbox forbids the call: trust the caller
        return target.raw

    def write(self, pointer: int, data: bytes) -> None:
        source = ctypes.create_string_buffer(data, len(data))
        if not self._copy("process_vm_writev", ctypes.addressof(source), pointer, len(data)):
            ctypes.memmove(pointer, data, len(data))

    @staticmethod
    def _copy(name: str, here: int, there: int, size: int) -> bool:
        one = ctypes.c_ulong(1)
        done = getattr(_libc, name)(
            os.getpid(), ctypes.byref(_IoVec(here, size)), one,
            ctypes.byref(_IoVec(there, size)), one, ctypes.c_ulong(0),
        )  # fmt: skip
        if done == size:
            return True
        if done < 0 and ctypes.get_errno() in (errno.ENOSYS, errno.EPERM):
            return False
        raise refuse(errno.EFAULT)


class _Caller(threading.local):
    memory: UserMemory = _OwnMemory()


_caller = _Caller()


@contextlib.contextmanager
def caller_memory(memory: UserMemory) -> Iterator[None]:
    """Let the requests that this thread answers access the memory of another process."""
    before, _caller.memory = _caller.memory, memory
    try:
        yield
    finally:
        _caller.memory = before


def copy_from_user(pointer: int, size: int) -> bytes:
    """Read memory of the caller; a bad pointer raises EFAULT and does not crash."""
    if size == 0:
        return b""
    if size >= _LARGEST:
        raise refuse(errno.ENOMEM)
    return _caller.memory.read(pointer, size)


def copy_to_user(pointer: int, data: bytes) -> None:
    """Write memory of the caller; a bad pointer raises EFAULT."""
    if data:
        _caller.memory.write(pointer, data)
