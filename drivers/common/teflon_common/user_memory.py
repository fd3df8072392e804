"""Memory of whoever asked a fake kernel something: this process, unless somebody else is named.

A kernel served to another process answers its requests inside `caller_memory`, so that
`copy_from_user` and `copy_to_user` reach that process.
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
    """Return the error that a request ends with."""
    return OSError(code, os.strerror(code))


class UserMemory(Protocol):
    """The memory of a process. Bad addresses are OSError EFAULT."""

    def read(self, pointer: int, size: int) -> bytes:
        """Return `size` bytes."""

    def write(self, pointer: int, data: bytes) -> None:
        """Store bytes."""


Reader = Callable[[int, int], bytes]
"""Returns memory: (address, size) -> bytes."""

_LARGEST = 1 << 31
"""More than the kernel copies at once."""

_libc = ctypes.CDLL(None, use_errno=True)


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Own:
    """The memory of this process, where the kernel itself checks the address."""

    def read(self, pointer: int, size: int) -> bytes:
        target = ctypes.create_string_buffer(size)
        if not self._moved("process_vm_readv", ctypes.addressof(target), pointer, size):
            return ctypes.string_at(pointer, size)  # a sandbox without the call: trust the caller
        return target.raw

    def write(self, pointer: int, data: bytes) -> None:
        source = ctypes.create_string_buffer(data, len(data))
        if not self._moved("process_vm_writev", ctypes.addressof(source), pointer, len(data)):
            ctypes.memmove(pointer, data, len(data))

    @staticmethod
    def _moved(name: str, here: int, there: int, size: int) -> bool:
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
    memory: UserMemory = _Own()


_caller = _Caller()


@contextlib.contextmanager
def caller_memory(memory: UserMemory) -> Iterator[None]:
    """Let requests that this thread answers read and write another process."""
    before, _caller.memory = _caller.memory, memory
    try:
        yield
    finally:
        _caller.memory = before


def copy_from_user(pointer: int, size: int) -> bytes:
    """Read memory of the caller as the kernel does: a bad pointer is EFAULT, not a crash."""
    if size == 0:
        return b""
    if size >= _LARGEST:
        raise refuse(errno.ENOMEM)
    return _caller.memory.read(pointer, size)


def copy_to_user(pointer: int, data: bytes) -> None:
    """Write memory of the caller; a bad pointer is EFAULT."""
    if data:
        _caller.memory.write(pointer, data)
