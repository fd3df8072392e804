"""The process that sends a request to a fake kernel: its memory and its file descriptors.

That is this process, unless the kernel serves another one. It then answers inside `calling`, so
that `copy_from_user` and the others mean the other process.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterator

from teflon import interrupts
from teflon.pipe import Caller
from teflon.pipe import refuse as refuse

Reader = Callable[[int, int], bytes]
"""A function that returns memory: (address, size) -> bytes."""

_LARGEST = 1 << 31
"""A size that the kernel refuses to copy."""

_STEP = 1 << 20
"""Bytes of memory that are copied at a time."""

_libc = ctypes.CDLL(None, use_errno=True)


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class OwnProcess(Caller):
    """The process itself that simulates; the computer's kernel checks the addresses."""

    @property
    def pid(self) -> int:
        return os.getpid()

    def read(self, pointer: int, size: int) -> bytes:
        if size > _STEP:  # a bad address is found before all the memory is there
            steps = range(0, size, _STEP)
            return b"".join(self.read(pointer + at, min(_STEP, size - at)) for at in steps)
        target = ctypes.create_string_buffer(size)
        if not self._copy("process_vm_readv", ctypes.addressof(target), pointer, size):
            return ctypes.string_at(pointer, size)  # a sandbox forbids the call: trust the caller
        return target.raw

    def write(self, pointer: int, data: bytes) -> None:
        source = ctypes.create_string_buffer(data, len(data))
        if not self._copy("process_vm_writev", ctypes.addressof(source), pointer, len(data)):
            ctypes.memmove(pointer, data, len(data))

    def give(self, descriptor: int, stays: bool = False) -> int:
        number = os.dup(descriptor)
        os.set_inheritable(number, stays)
        return number

    def take(self, number: int) -> int:
        return os.dup(number)

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


class _Current(threading.local):
    caller: Caller = OwnProcess()


_current = _Current()


@contextlib.contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Let the requests that this thread answers be those of another process."""
    before, _current.caller = _current.caller, caller
    try:
        yield
    finally:
        _current.caller = before


def copy_from_user(pointer: int, size: int) -> bytes:
    """Read memory of the caller; a bad pointer raises EFAULT and does not crash."""
    if size == 0:
        return b""
    if size >= _LARGEST:
        raise refuse(errno.ENOMEM)
    if pointer + size > 1 << 64:
        raise refuse(errno.EFAULT)
    return _current.caller.read(pointer, size)


def copy_to_user(pointer: int, data: bytes) -> None:
    """Write memory of the caller; a bad pointer raises EFAULT."""
    if pointer + len(data) > 1 << 64:
        raise refuse(errno.EFAULT)
    if data:
        _current.caller.write(pointer, data)


def give_descriptor(descriptor: int, stays: bool = False) -> int:
    """Give the caller a copy of a descriptor of this process; return the caller's number.

    stays: the copy stays open when the caller runs another program.
    """
    return _current.caller.give(descriptor, stays)


def caller_pid() -> int:
    """Return the caller's process id; 0 if it is not known."""
    return _current.caller.pid


def check_caller() -> None:
    """Raise OSError EINTR if nobody waits for an answer: the caller was killed, or Ctrl-C came."""
    if interrupts.came() or not _current.caller.waits():
        raise refuse(errno.EINTR)


@contextlib.contextmanager
def taken_descriptor(number: int) -> Iterator[int]:
    """Yield a copy of the caller's descriptor; a bad number raises EBADF."""
    descriptor = _current.caller.take(number)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
