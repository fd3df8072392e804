"""Threads for loops in C that release the GIL: each thread works on some pieces of one job."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from teflon import forks

Piece = TypeVar("Piece")

COUNT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Processors that this process may use, and threads that work at the same time."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(COUNT - 1, 1), "teflon worker")


forks.in_child(_pool.cache_clear)  # threads do not survive a fork


def shared(work: Callable[[Piece], object], pieces: Sequence[Piece]) -> None:
    """Call `work` with every piece in several threads, and return when all calls have ended.

    The calling thread takes the first piece. If calls raise, the exception of the first such piece
    is raised. `work` must not call `shared` itself: all threads could then wait for one another.
    """
    others = [_pool().submit(work, piece) for piece in pieces[1:]]
    try:
        for piece in pieces[:1]:
            work(piece)
    finally:
        failures = [failure for other in others if (failure := other.exception())]
    for failure in failures[:1]:
        raise failure


def rows(count: int, parts: int = COUNT) -> list[range]:
    """Return the rows from 0 to before `count` as at most `parts` ranges of about equal size."""
    step = max(-(-count // parts), 1)
    return [range(first, min(first + step, count)) for first in range(0, count, step)]
