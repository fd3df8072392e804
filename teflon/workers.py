"""Threads for loops in C that release the GIL: each thread works on some pieces of one job."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

from teflon import forks, interrupts

Piece = TypeVar("Piece")

COUNT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Processors that this process may use, and threads that work at the same time."""


class _Call(Generic[Piece]):
    """A call of `work` with one piece, in another thread."""

    def __init__(self, work: Callable[[Piece], object], piece: Piece) -> None:
        self._work, self._piece = work, piece
        self.failure: BaseException | None = None
        self.needed = True
        self.done = interrupts.Gate()

    def run(self) -> None:
        try:
            if self.needed:
                self._work(self._piece)
        except BaseException as error:
            self.failure = error
        finally:
            self.done.open()


class _Pool:
    """Threads that take calls from a queue. They end with the process."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, without threads: a forked child has none."""
        self._calls: SimpleQueue[_Call[object]] = SimpleQueue()
        self._started = 0

    def run(self, call: _Call[Piece]) -> None:
        """Run a call as soon as a thread is free."""
        self._calls.put(call)  # type: ignore[arg-type]
        if self._started < max(COUNT - 1, 1):
            with interrupts.whole():
                self._started += 1
                threading.Thread(
                    target=_serve, args=(self._calls,), name="teflon worker", daemon=True
                ).start()


def _serve(calls: SimpleQueue[_Call[object]]) -> None:
    while True:
        calls.get().run()


_pool = _Pool()
forks.in_child(_pool.forget)


def shared(work: Callable[[Piece], object], pieces: Sequence[Piece]) -> None:
    """Call `work` with every piece in several threads, and return when all calls have ended.

    The calling thread takes the first piece. If calls raise, the exception of the first such piece
    is raised. `work` must not call `shared` itself: all threads could then wait for one another.
    After Ctrl-C no more calls begin, and KeyboardInterrupt is raised when all that run have ended:
    what they write may be used again.
    """
    calls = [_Call(work, piece) for piece in pieces[1:]]
    try:
        for call in calls:
            _pool.run(call)
        for piece in pieces[:1]:
            work(piece)
    except KeyboardInterrupt:
        _finish(calls, needed=False)
        raise
    finally:
        _finish(calls)
    for call in calls:
        if call.failure is not None:
            raise call.failure


def _finish(calls: Sequence[_Call[Piece]], needed: bool = True) -> None:
    """Wait for calls; an interrupt waits too."""
    interrupt: KeyboardInterrupt | None = None
    for call in calls:
        call.needed = call.needed and needed
    for call in calls:
        while not call.done.is_open:
            try:
                call.done.wait()
            except KeyboardInterrupt as error:
                interrupt = error
                for other in calls:
                    other.needed = False
    if interrupt is not None:
        raise interrupt


def rows(count: int, parts: int = COUNT) -> list[range]:
    """Return the rows from 0 to before `count` as at most `parts` ranges of about equal size."""
    step = max(-(-count // parts), 1)
    return [range(first, min(first + step, count)) for first in range(0, count, step)]
