"""Threads for loops in C that let go of the interpreter: pieces of one job, shared between them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")

COUNT = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""Processors that this process may use: threads that work at the same time."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(COUNT - 1, 1), "teflon worker")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork
    os.register_at_fork(after_in_child=_pool.cache_clear)


def shared(work: Callable[[Piece], object], pieces: Sequence[Piece]) -> None:
    """Do the work on every piece, the first one in the calling thread; returns when all are done.

    Raises what the work raised, the first piece's exception first. The work must not call `shared`
    itself: it could wait for a thread that waits for it.
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
    """Return the rows 0 to count in so many pieces of about the same size, or fewer."""
    step = max(-(-count // parts), 1)
    return [range(first, min(first + step, count)) for first in range(0, count, step)]
