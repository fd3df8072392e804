# Ref: docs/hardware/rocket.md §1.4 (interrupts, time limit), §1.6 (schedulers)
# Ref: Linux, drivers/accel/rocket/rocket_job.c (rocket_job_timedout, rocket_reset),
# drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_flush: what a closed file leaves)
"""How the fake kernel runs the jobs in the queues of its open files."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from teflon import trace
from teflon.errors import SimulatorFault
from teflon_common.fake_drm import BROKEN_OFF, FakeFile, FakeKernel
from teflon_common.fake_fences import wait_all
from teflon_rocket import uapi
from teflon_rocket.chips import Chip
from teflon_rocket.simulator.jobs import QueuedJob, RocketFile

LIMIT = uapi.JOB_MILLISECONDS / 1000
"""Seconds after which the kernel ends a job."""
_FLUSH = 1.0
"""Seconds for which a closed file's queue still runs. Ref: MAX_WAIT_SCHED_ENTITY_Q_EMPTY."""
_STEP = 0.1

_CUT = SimulatorFault("the job was dropped: its open file was closed before the job had begun")
_TIMED_OUT = SimulatorFault(
    f"the job hangs, must end within {uapi.JOB_MILLISECONDS} ms (the kernel ended it and reset the"
    " core)"
)


class RunningKernel(FakeKernel):
    """Runs each job on the core that it has in modelled time.

    Without `real_time` a job takes as long as its simulation, and one that fails ends at once. With
    it, it takes its modelled time at least, and one that fails or hangs ends after 500 ms, by a
    reset.
    """

    def __init__(self, chip: Chip, waited: int, **options: Any) -> None:
        """waited: bits of PC.INTERRUPT_STATUS at one of which a task is done."""
        super().__init__(**options)
        self.chip, self._waited = chip, waited
        self._signal = threading.Condition(self.lock)
        self._cores = [threading.Lock() for _ in range(chip.cores)]
        self._tracks = [trace.track(f"{chip.name} core {n}") for n in range(chip.cores)]
        self._told: set[str] = set()

    def release(self, file: FakeFile) -> None:
        """Close a file when its queued jobs have run to their end."""
        assert isinstance(file, RocketFile)
        if (worker := file.worker) is not None:
            worker.join()
        file.failed = None
        super().release(file)

    def abandon(self, file: FakeFile) -> None:
        """Close a file without waiting: its worker releases it after the jobs that still run.

        Jobs that have not begun after a second are dropped, as in the kernel.
        """
        assert isinstance(file, RocketFile)
        with self.lock:
            file.patience = time.monotonic() + _FLUSH
            if file.worker is not None:
                return
        self.release(file)

    def start(self, file: RocketFile) -> None:
        """Let a worker run the queue, if none does."""
        if file.worker is not None or not file.queue:
            return
        file.worker = threading.Thread(
            target=self._work, args=(file,), name=f"rocket file {file.number}", daemon=True
        )
        file.worker.start()

    def _work(self, file: RocketFile) -> None:
        while (job := self._next(file)) is not None:
            while not wait_all(job.waits, _STEP) and not file.cut():
                continue
            with self._cores[job.run.core]:
                track = self._tracks[job.run.core]
                with trace.span(job.run.name, track, job=job.where, tasks=len(job.tasks)):
                    fault = self._run_in_time(file, job, track)
            with self._signal:
                job.fence.signalled, job.fence.fault = True, fault
                file.queue.popleft()
                for bo in job.buffers:
                    self.put(file, bo)
                self._signal.notify_all()
            if job.shared is not None:
                seen, end = job.shared
                if fault is not None:
                    seen.error = -(errno.ESRCH if fault is _CUT else errno.ECANCELED)
                end.set_result(None)
        if file.patience is not None:
            self.release(file)

    def _next(self, file: RocketFile) -> QueuedJob | None:
        with self.lock:
            if file.queue:
                return file.queue[0]
            file.worker = None
            return None

    def _run_in_time(self, file: RocketFile, job: QueuedJob, track: int) -> SimulatorFault | None:
        begun = time.monotonic()
        fault = self._run(file, job, track, begun)
        if not self.real_time or fault is _CUT:
            return fault
        modelled = (job.run.end - job.run.start) / 1000
        if modelled > LIMIT:
            self.complaints.append(
                f"{job.where}: takes {modelled * 1000:.0f} ms in modelled time, must be at most"
                f" {uapi.JOB_MILLISECONDS} ms (the kernel resets the core then)"
            )
        length = modelled if fault is None else LIMIT
        time.sleep(max(begun + length - time.monotonic(), 0))
        return fault

    def _run(
        self, file: RocketFile, job: QueuedJob, track: int, begun: float
    ) -> SimulatorFault | None:
        """Run a job; after a fault the next jobs of the same SUBMIT end with it and do not run."""
        if file.cut():
            return _CUT
        if file.failed is not None and file.failed[0] == job.submit:
            return file.failed[1]
        broken = self.breaks_off(lambda: file.cut() or self._late(begun))
        if file.cut() or self._late(begun):
            return _CUT if file.cut() else _TIMED_OUT
        try:
            for name, group in groupby(range(len(job.tasks)), lambda n: job.operation(n)):
                with trace.span(name, track, operation=name):
                    for index in group:
                        self._run_task(file, job, index, track)
                        if broken:
                            raise BROKEN_OFF
        except SimulatorFault as found:
            return self._failed(file, job, found)
        except Exception as error:  # a bug of the simulator must not leave its user waiting
            fault = SimulatorFault(
                f"{job.where}: the simulator itself failed with {type(error).__name__}: {error}"
            )
            fault.__cause__ = error
            return self._failed(file, job, fault)
        return None

    def _failed(self, file: RocketFile, job: QueuedJob, fault: SimulatorFault) -> SimulatorFault:
        """Note the fault of a job. Its traceback would keep the buffers of other programs alive."""
        if self.shares_memory:
            fault = SimulatorFault(str(fault))
        file.failed = (job.submit, fault)
        return fault

    def _late(self, begun: float) -> bool:
        return self.real_time and time.monotonic() - begun >= LIMIT

    def _tell(self, tolerated: Mapping[str, str]) -> None:
        """Complain of a rule that a program breaks and the hardware forgives, once for each."""
        for rule in tolerated.keys() - self._told:
            self._told.add(rule)
            self.complaints.append(f"{tolerated[rule]} (the hardware computes on; said once)")

    def _run_task(self, file: RocketFile, job: QueuedJob, index: int, track: int) -> None:
        task = job.tasks[index]
        with trace.span(f"task {index}", track, words=task.regcmd_count):
            where = f"{job.where} task {index}"
            file.machine.run_task(task.regcmd, task.regcmd_count, job.run.core, where)
            self._tell(file.machine.tolerated())
            raised = file.machine.interrupts(task.regcmd, task.regcmd_count)
            if not raised & self._waited:
                raise SimulatorFault(f"{where}: {_hang(raised, self._waited)}")


def _hang(raised: int, waited: int) -> str:
    return (
        f"PC.INTERRUPT_STATUS: its units raise #{raised:x}, must raise a bit of #{waited:x}, for"
        " which the kernel waits (the job hangs: the kernel ends it after"
        f" {uapi.JOB_MILLISECONDS} ms and resets the core)"
    )
