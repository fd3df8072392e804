"""Runs the jobs of the etnaviv kernel on its machine, one at a time."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from teflon import trace
from teflon.errors import SimulatorFault
from teflon_common.fake_drm import BROKEN_OFF
from teflon_common.fake_fences import Signal
from teflon_etnaviv import counters, uapi
from teflon_etnaviv.rates import RATES, Model
from teflon_etnaviv.simulator import submit
from teflon_etnaviv.simulator.buffer_use import use_of
from teflon_etnaviv.simulator.files import EtnavivFile
from teflon_etnaviv.simulator.jobs import FAILED, KILLED, Job
from teflon_etnaviv.simulator.machine import Machine
from teflon_etnaviv.simulator.submit import Work

if TYPE_CHECKING:
    from teflon_etnaviv.simulator.kernel import EtnavivKernel

_FLUSH_SECONDS = 1.0
"""How long a file that is closed waits for jobs that cannot start.

Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c, include/drm/gpu_scheduler.h
(MAX_WAIT_SCHED_ENTITY_Q_EMPTY)
"""


class Runner:
    """The queue of a kernel's hardware. The kernel's lock is held where a docstring says so."""

    def __init__(self, kernel: EtnavivKernel) -> None:
        self._kernel = kernel
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"etnaviv {kernel.chip.name}")
        self._track = trace.track(kernel.chip.name)
        rates = RATES.get(kernel.chip.name)
        self._model = Model(kernel.chip, rates) if rates is not None else None

    def queue(self, file: EtnavivFile, job: Job) -> Iterable[Signal]:
        """Put a job behind its file's others of the same core; return what it waits for, then.

        The kernel's lock is held.
        """
        before, file.last[job.work.pipe] = file.last[job.work.pipe], job
        file.waiting[job] = None
        return [before.end] if before is not None else []

    def start(self, file: EtnavivFile, job: Job) -> None:
        """Hand a job that waits for nothing any more to the hardware."""
        self._worker.submit(self._run, file, job)

    def flush(self, file: EtnavivFile) -> None:
        """Let the jobs of a file end before it is closed."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        for job in list(file.waiting):
            if not job.started.wait(max(deadline - time.monotonic(), 0)) and job.claim():
                job.mark(KILLED)
                job.end.set_result(None)
                self._kernel.ended(file, job)
                file.waiting.pop(job, None)
        wait([job.end for job in list(file.waiting)])

    def release(self, file: EtnavivFile, work: Work) -> None:
        """Release the buffers of a submit. The kernel's lock is held, or nobody knows the submit."""
        for bo, _, _ in work.bos:
            with self._kernel.lock:
                file.addresses.release(bo)
                self._kernel.put(file, bo)

    def _run(self, file: EtnavivFile, job: Job) -> None:
        if not job.claim():
            return
        fault: BaseException | None = None
        try:
            self._execute(file, job.work)
        except SimulatorFault as error:
            fault = error
        except Exception as error:  # a bug of the simulator must not pass for anything else
            fault = SimulatorFault(
                f"{job.work.where}: the simulator itself failed with {type(error).__name__}:"
                f" {error}"
            )
            fault.__cause__ = error
        if fault is None:
            job.end.set_result(None)
        else:
            file.faults.append(str(fault))
            job.mark(FAILED)
            job.end.set_exception(fault)
        self._kernel.ended(file, job)
        file.waiting.pop(job, None)
