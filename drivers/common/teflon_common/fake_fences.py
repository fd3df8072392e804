"""Fences and sync files of fake kernels.

    fence = Fence(job.future, timeline="etnaviv", number=7)    # or anything with done() and
    number = SyncFile([fence]).give()                          # add_done_callback(): see Signal

    with taken_descriptor(argument.fence_fd) as descriptor:    # a caller's sync file, to wait for
        waited = find_sync_file(descriptor)                    # None: it is no sync file

A sync file is one end of a socket pair, so that it has an inode of its own, can be passed on and
duplicated, and is ready to read as soon as it has signalled. It is never ready to write. A thread
learns from the other end that all copies are closed; then nothing is left of it here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from teflon_common.caller import check_caller, give_descriptor

# Ref: Linux, drivers/dma-buf/sync_file.c (poll, names, merge), dma-fence-unwrap.c (what a merged
# file holds), dma-fence.c (status, context, stub)

_FILLED = 2048
"""Bytes that keep the smallest send buffer so full that poll never says it is ready to write."""
_SLICE = 0.25
"""Seconds after which a wait looks whether the one who waits was killed."""


class Signal(Protocol):
    """Something that ends once: a `concurrent.futures.Future`, or a job of a fake kernel."""

    def done(self) -> bool:
        """Whether it has ended."""

    def add_done_callback(self, call: Callable[[Any], object], /) -> object:
        """Call `call(self)` when it ends; at once if it has ended."""


_contexts = itertools.count(1)


def new_context() -> int:
    """Return the number of a new timeline: fences of one timeline signal in order."""
    return next(_contexts)


class Fence:
    """A dma_fence: the end of a job, its place on a timeline, and when it came.

    `error` is 0, or a negative errno with which the job ended; it may be set until it signals.
    """

    def __init__(
        self,
        signal: Signal,
        *,
        driver: str = "drm_sched",
        timeline: str = "",
        context: int = 0,
        number: int = 0,
    ) -> None:
        """driver, timeline: the names that SYNC_IOC_FILE_INFO tells. context: see `new_context`.

        number: the fence's sequence number on its timeline.
        """
        self.signal, self.driver, self.timeline = signal, driver, timeline
        self.context, self.number = context, number
        self.error = 0
        self.signalled_ns = 0
        signal.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self.signalled_ns = self.signalled_ns or time.monotonic_ns()

    def done(self) -> bool:
        """Whether it has signalled."""
        return self.signal.done()

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Call `call(self)` when it signals; at once if it has signalled."""
        self.signal.add_done_callback(lambda _: call(self))

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it signals; return False if that took longer than `seconds`."""
        return wait_all([self], seconds)

    @property
    def status(self) -> int:
        """1 if it has signalled, 0 if not, a negative errno if it signalled with an error."""
        return (self.error or 1) if self.done() else 0

    @property
    def timestamp_ns(self) -> int:
        """When it signalled, by CLOCK_MONOTONIC; 0 before."""
        if not self.done():
            return 0
        self._ended(None)  # callbacks may come a moment later than the end
        return self.signalled_ns


class _Signalled:
    """The end of nothing: the signal of a stub fence."""

    def done(self) -> bool:
        return True

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        call(self)


def stub(timestamp_ns: int = 0) -> Fence:
    """Return a fence that has signalled already: now, or at a time of CLOCK_MONOTONIC."""
    fence = Fence(_Signalled(), driver="stub", timeline="stub")
    fence.signalled_ns = timestamp_ns or fence.signalled_ns
    return fence


def wait_all(fences: Iterable[Fence], seconds: float | None = None) -> bool:
    """Wait for all fences; return False if that took longer than `seconds`.

    Raises OSError EINTR if the caller is another process that was killed meanwhile.
    """
    end = None if seconds is None else time.monotonic() + seconds
    for fence in fences:
        if fence.done():
            continue
        ended = threading.Event()
        fence.add_done_callback(functools.partial(_set, ended))
        if not wait_until(ended.wait, end):
            return False
    return True


def _set(event: threading.Event, _: object) -> None:
    event.set()


def wait_until(wait: Callable[[float], bool], end: float | None = None) -> bool:
    """Call `wait(seconds)` until it returns True; return False at `end` (time.monotonic).

    Raises OSError EINTR if the caller is another process that was killed meanwhile.
    """
    while True:
        left = _SLICE if end is None else min(_SLICE, end - time.monotonic())
        if wait(max(left, 0)):
            return True
        if left < _SLICE:
            return False
        check_caller()


def merged(fences: Iterable[Fence]) -> list[Fence]:
    """Return the fences that still matter: of each timeline the latest that has not signalled.

    If all have signalled, a stub stands for them, with the latest of their times.
    """
    latest: dict[tuple[int, int], Fence] = {}
    ended = 0
    for fence in fences:
        if fence.done():
            ended = max(ended, fence.timestamp_ns)
            continue
        key = (fence.context, 0 if fence.context else id(fence))
        before = latest.get(key)
        latest[key] = fence if before is None or before.number < fence.number else before
    return sorted(latest.values(), key=lambda fence: fence.context) or [stub(ended)]


class Reservation:
    """The fences of a buffer (a dma_resv): those of its writers and those of its readers."""

    def __init__(self) -> None:
        self._fences: list[tuple[Fence, bool]] = []

    def add(self, fence: Fence, writes: bool) -> None:
        """Add the fence of a job that writes, or only reads, the buffer."""
        self._fences = [(f, w) for f, w in self._fences if not f.done()] + [(fence, writes)]

    def fences(self, writing: bool) -> list[Fence]:
        """Return what must signal before somebody writes the buffer, or only reads it."""
        return [f for f, writes in self._fences if (writes or writing) and not f.done()]


class SyncFile:
    """A file that is ready to read when all its fences have signalled."""

    def __init__(self, fences: Iterable[Fence], name: str = "") -> None:
        """name: what SYNC_IOC_MERGE named it; else it is named by its first fence."""
        self.fences = list(fences)
        self.name = name or _name(self.fences)

    def done(self) -> bool:
        """Whether all fences have signalled."""
        return all(fence.done() for fence in self.fences)

    def add_done_callback(self, call: Callable[[Any], object], /) -> None:
        """Call `call(self)` when all fences have signalled; at once if they have."""
        left = itertools.count(1)  # next() on it is atomic

        def ended(_: object) -> None:
            if next(left) == len(self.fences):
                call(self)

        for fence in self.fences:
            fence.add_done_callback(ended)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all fences have signalled; return False if `seconds` were not enough."""
        return wait_all(self.fences, seconds)

    @property
    def status(self) -> int:
        """1 if all have signalled, 0 if not, a negative errno if one signalled with an error."""
        if not self.done():
            return 0
        return min((fence.status for fence in self.fences), default=1)

    def give(self) -> int:
        """Give the caller a descriptor of this file; return its number there. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
            theirs.send(bytes(_FILLED), socket.MSG_DONTWAIT)
            _open_files.add(self, ours, theirs)
            return give_descriptor(theirs.fileno())


def _name(fences: list[Fence]) -> str:
    if len(fences) > 1:
        return f"dma_fence_array-unbound{new_context()}-1"
    first = fences[0]
    return f"{first.driver}-{first.timeline}{first.context}-{first.number}"


class _OpenFiles:
    """The sync files that programs have open, by inode, and our ends of their socket pairs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[tuple[int, int], tuple[SyncFile, socket.socket]] = {}
        self._epoll: select.epoll | None = None
        self._keys: dict[int, tuple[int, int]] = {}

    def add(self, file: SyncFile, ours: socket.socket, theirs: socket.socket) -> None:
        key = _inode(theirs.fileno())
        with self._lock:
            if self._epoll is None:
                self._epoll = select.epoll()
                threading.Thread(target=self._watch, daemon=True, name="sync files").start()
            self._files[key], self._keys[ours.fileno()] = (file, ours), key
            self._epoll.register(ours.fileno(), select.EPOLLHUP)
        file.add_done_callback(lambda _: self._signal(ours))

    def _signal(self, ours: socket.socket) -> None:
        with self._lock, contextlib.suppress(OSError):  # all copies are closed
            if ours.fileno() in self._keys:
                ours.send(b"\1", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def find(self, descriptor: int) -> SyncFile | None:
        with self._lock:
            found = self._files.get(_inode(descriptor))
        return found[0] if found else None

    def _watch(self) -> None:
        """Forget each file of which all copies are closed."""
        assert self._epoll is not None
        while True:
            for number, event in self._epoll.poll():
                if event & select.EPOLLHUP:
                    with self._lock:
                        self._files.pop(self._keys.pop(number))[1].close()

    def __len__(self) -> int:
        return len(self._files)


_open_files = _OpenFiles()


def _inode(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def find_sync_file(descriptor: int) -> SyncFile | None:
    """Return the sync file that a descriptor of this process is; None if it is none."""
    try:
        return _open_files.find(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None


def open_sync_files() -> int:
    """Return how many sync files programs have open."""
    return len(_open_files)
