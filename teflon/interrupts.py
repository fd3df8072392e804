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


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the body, which must be short and must not block.

    Only the main thread hears signals; in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if came:
            signal.raise_signal(signal.SIGINT)
