"""Jobs of the etnaviv kernel: they wait for what they depend on, run in order, and have fences.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_sched.c (etnaviv_sched_push_job)
Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_flush, _kill)
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from teflon_common.fake_fences import Fence, Signal, new_context
from teflon_etnaviv.chips import Identity
from teflon_etnaviv.simulator.buffer_use import End
from teflon_etnaviv.simulator.submit import Work

_NUMBERS = 1 << 32
_FAULTS_KEPT = 64


class Core:
    """One core of a node: fences by the number that programs know, and counters.

    A fence is known from its submit to the end of the job, for all open files. Numbers count from 0
    and wrap around.
    Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gpu.c (etnaviv_gpu_init: XA_FLAGS_ALLOC)
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.counts: Counter[str] = Counter()
        self.next = 0
        self._context, self._timeline = new_context(), itertools.count(1)
        self._fences: dict[int, End] = {}
        self._faults: dict[int, End] = {}

    def number(self, end: End) -> int:
        """Give a job's end a number."""
        while self.next in self._fences:
            self.next = (self.next + 1) % _NUMBERS
        number, self.next = self.next, (self.next + 1) % _NUMBERS
        self._fences[number] = end
        self._faults.pop(number, None)
        return number

    def fence(self, end: End) -> Fence:
        """Return a fence for a sync file."""
        return Fence(
            end,
            driver="etnaviv",
            timeline="etnaviv-gpu",
            context=self._context,
            number=next(self._timeline),
        )

    def find(self, number: int) -> End | None:
        """Return the end of the job with a fence; None where it came already, or no job has it.

        The simulator's faults are kept, so that a wait that comes later raises them.
        """
        return self._fences.get(number) or self._faults.get(number)

    def forget(self, number: int, end: End) -> None:
        """Forget a fence whose job has ended."""
        del self._fences[number]
        if end.exception() is not None:
            self._faults[number] = end
            while len(self._faults) > _FAULTS_KEPT:
                del self._faults[next(iter(self._faults))]


class Job:
    """A submit from its queue to its end; it is run or killed, whichever claims it first."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.end: End = Future()
        self.fence: Fence | None = None
        self.number = -1
        self.started = threading.Event()
        self._lock = threading.Lock()

    def claim(self) -> bool:
        """Whether the caller is the first who claims it."""
        with self._lock:
            first = not self.started.is_set()
            self.started.set()
        return first

    def mark(self, code: int) -> None:
        """Let the sync files of this job tell an errno."""
        if self.fence is not None:
            self.fence.error = -code

    def after(self, ends: Iterable[Signal], start: Callable[[], object]) -> None:
        """Call `start` when all have ended; at once if they have."""
        waits = [end for end in ends if not end.done()]
        if not waits:
            start()
            return
        left = itertools.count(1)  # next() on it is atomic

        def ended(_: object) -> None:
            if next(left) == len(waits):
                start()

        for end in waits:
            end.add_done_callback(ended)


KILLED, FAILED = errno.ESRCH, errno.ECANCELED
"""What sync files tell of a job whose file was closed before it started, and of one that hung.

Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_kill), sched_main.c
(drm_sched_resubmit_jobs)
"""
