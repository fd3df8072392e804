"""Long calls into a runtime, which Ctrl-C must be able to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from teflon.ir.types import Array

LONG = 0.1
"""Seconds from which a call is long: a person would notice that Ctrl-C waits for its end."""

Run = Callable[[Sequence[Array]], list[Array]]


class Patient:
    """Calls a function that a signal cannot interrupt, in a way that a signal can.

    Python handles signals in the main thread, between two of its own steps: never while a runtime
    computes there. So a call from the main thread gets a thread of its own, unless the calls before
    it were short. If the wait is interrupted, the call goes on to its end and nobody hears of it.
    """

    def __init__(self) -> None:
        self._short = False

    def __call__(self, run: Run, inputs: Sequence[Array]) -> list[Array]:
        """Return `run(inputs)`. Raises what it raises, and KeyboardInterrupt."""
        start = time.monotonic()
        if self._short or threading.current_thread() is not threading.main_thread():
            results = run(inputs)
        else:
            results = _apart(run, inputs)
        self._short = time.monotonic() - start < LONG
        return results


def _apart(run: Run, inputs: Sequence[Array]) -> list[Array]:
    found: list[list[Array]] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.append(run(inputs))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="runtime")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]
