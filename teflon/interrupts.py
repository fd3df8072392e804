"""Ctrl-C: waits that it may end, and work that it must not divide."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator

MOST = 0.5
"""Seconds after which a wait looks again."""


class Gate:
    """It opens once. A wait for it may be interrupted at any moment, which harms no other wait.

    Python's `Condition`, `Event`, `Semaphore` and `Future.result` are not like that: an interrupt
    in their own Python code can leave their lock taken for ever. Only `with` of a plain lock is
    safe, and a call of its methods.
    """

    def __init__(self) -> None:
        self._open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def open(self) -> None:
        """Open it; a second call does nothing. Only one thread may call it."""
        if not self._open:
            self._open = True
            self._lock.release()

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._open

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is open, or for some seconds; return whether it is open."""
        end = math.inf if seconds is None else time.monotonic() + seconds
        while not self._open:
            left = min(end - time.monotonic(), MOST)
            if left <= 0:
                break
            if self._lock.acquire(timeout=left):
                self._lock.release()  # for the next one that waits
        return self._open


_came: list[int] = []
"""Signals that came while `whole` ran; only the main thread has some."""


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the body, which must be short, or look whether it `came`.

    Only the main thread hears signals; in another one this does nothing.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or before is _note or not _is_main():
        yield
        return
    _came.clear()
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if _came:
            _came.clear()
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def taken(lock: threading.Lock, seconds: float | None = None) -> Iterator[bool]:
    """Take a lock for the body, within some seconds; yield whether that succeeded.

    Without a limit `with lock` is shorter. `lock.acquire()` by itself is not safe: an interrupt may
    come before the next statement, and the lock stays taken.
    """
    got = False
    try:
        with whole():
            end = math.inf if seconds is None else time.monotonic() + seconds
            while not got and not came():
                left = min(end - time.monotonic(), MOST)
                got = lock.acquire(timeout=max(left, 0))
                if left <= 0:
                    break
        yield got
    finally:
        if got:
            lock.release()


def came() -> bool:
    """Whether Ctrl-C waits for the end of what this thread does."""
    return bool(_came) and _is_main()


def _note(number: int, _: object) -> None:
    _came.append(number)


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
