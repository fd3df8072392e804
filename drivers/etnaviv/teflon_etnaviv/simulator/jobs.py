"""Jobs of the etnaviv kernel: what they wait for, and the fences by which others wait for them.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_sched.c (etnaviv_sched_push_job)
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any

from teflon.errors import SimulatorFault
from teflon_common.fake_fences import Fence, Signal, new_context
from teflon_etnaviv import counters
from teflon_etnaviv.chips import Identity
from teflon_etnaviv.effort import Effort
from teflon_etnaviv.rates import Model
from teflon_etnaviv.simulator.submit import Work

KILLED, FAILED = errno.ESRCH, errno.ECANCELED
"""What sync files tell of a job whose file was closed before it started, and of one that failed.

Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_kill), sched_main.c
(drm_sched_resubmit_jobs)
"""
_NUMBERS = 1 << 32
_FAULTS_KEPT = 64


class Core:
    """One core of a node: its jobs by the number that programs know, and its counters.

    A fence is known from its submit to the end of the job, to all open files. Numbers count from 0
    and wrap around.
    Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gpu.c (etnaviv_gpu_init: XA_FLAGS_ALLOC)
    """

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.counts: Counter[str] = Counter()
        self.next = 0
        self.busy_ms = 0.0
        """Modelled milliseconds of the last job."""
        self._jobs: dict[int, Job] = {}
        self._failed: dict[int, Job] = {}

    def give_number(self, job: Job) -> None:
        """Give a job its number."""
        while self.next in self._jobs:
            self.next = (self.next + 1) % _NUMBERS
        job.number, self.next = self.next, (self.next + 1) % _NUMBERS
        self._jobs[job.number] = job
        self._failed.pop(job.number, None)

    def find(self, number: int) -> Job | None:
        """Return the job with a number; None where it has ended, and where there is none.

        Those that the simulator failed are kept, so that a wait that comes later raises the fault.
        """
        return self._jobs.get(number) or self._failed.get(number)

    def count(self, efforts: Iterable[Effort], model: Model | None) -> None:
        """Count what a job did."""
        for effort in efforts if model is not None else ():
            self.busy_ms += effort.total_ms
            self.counts[counters.READ] += effort.dram_read // 8
            self.counts[counters.WRITTEN] += effort.dram_written // 8
        if model is not None:
            self.counts[counters.CYCLES] += round(self.busy_ms * model.rates.cycles)

    def forget(self, job: Job) -> None:
        """Forget the number of a job that has ended."""
        del self._jobs[job.number]
        if job.fault is not None:
            self._failed[job.number] = job
            while len(self._failed) > _FAULTS_KEPT:
                del self._failed[next(iter(self._failed))]


class Timeline:
    """The jobs of one open file on one core, which end in order.

    Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_init), sched_fence.c
    """

    def __init__(self) -> None:
        self._context, self._count = new_context(), itertools.count(1)

    def job(self, work: Work) -> Job:
        """Return a new job."""
        return Job(work, self._context, next(self._count))


class Job:
    """A submit from its queue to its end; it is run or killed, whichever claims it first."""

    def __init__(self, work: Work, context: int, count: int) -> None:
        self.work = work
        self.number = -1
        self.fault: SimulatorFault | None = None
        self._end: Future[None] = Future()
        self.fence = Fence(self._end, timeline="etnaviv", context=context, number=count)
        self._claimed, self._lock = False, threading.Lock()

    def claim(self) -> bool:
        """Whether the caller is the first who claims it."""
        with self._lock:
            first, self._claimed = not self._claimed, True
        return first

    def signal(self, code: int = 0) -> None:
        """Signal the end; sync files tell the errno."""
        self.fence.error = -code
        self._end.set_result(None)


def after(signals: Iterable[Signal], start: Callable[[], Any]) -> None:
    """Call `start` when all have ended; at once if they have."""
    waits = [signal for signal in signals if not signal.done()]
    if not waits:
        start()
        return
    left = itertools.count(1)  # next() on it is atomic

    def ended(_: object) -> None:
        if next(left) == len(waits):
            start()

    for signal in waits:
        signal.add_done_callback(ended)
