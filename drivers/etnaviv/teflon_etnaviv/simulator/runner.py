"""Runs the jobs of the etnaviv kernel on its machine, one at a time."""

from __future__ import annotations

import struct
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from teflon import trace
from teflon.errors import SimulatorFault
from teflon_common.fake_drm import BROKEN_OFF, FakeKernel
from teflon_common.fake_fences import Fence, Signal, wait_all
from teflon_etnaviv import uapi
from teflon_etnaviv.chips import Chip, Identity
from teflon_etnaviv.rates import RATES, Model
from teflon_etnaviv.simulator.buffer_use import use_of
from teflon_etnaviv.simulator.files import EtnavivFile
from teflon_etnaviv.simulator.jobs import FAILED, KILLED, Core, Job, after
from teflon_etnaviv.simulator.machine import Machine
from teflon_etnaviv.simulator.submit import Work, store

_FLUSH_SECONDS = 1.0
"""How long the jobs of a file that is closed may still begin.

Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_flush),
include/drm/gpu_scheduler.h (MAX_WAIT_SCHED_ENTITY_Q_EMPTY)
"""
_LIMIT = 1.0
"""Seconds after which the kernel resets a core whose job hangs: when its limit of 500 ms has run
out for the second time, as the first time it counts the job before as progress.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_sched.c (etnaviv_sched_timedout_job)
"""
_FAULTS_KEPT = 63
_CUT = SimulatorFault("the job was dropped: its open file was closed before the job had begun")
_TIMED_OUT = SimulatorFault(
    f"the job hangs, must end within {_LIMIT:g} s (the kernel ended it and reset the core)"
)


_Calls = SimpleQueue[Callable[[], None] | None]


def _started(name: str) -> _Calls:
    """Start a thread, and return the queue of what it calls; None ends it.

    It is a daemon: jobs that nobody waits for do not hold up the end of the program.
    """
    calls: _Calls = SimpleQueue()
    threading.Thread(target=_serve, args=(calls,), name=name, daemon=True).start()
    return calls


def _serve(calls: _Calls) -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # it refers to the kernel


class Runner:
    """The scheduler of a kernel's cores, and its one machine."""

    def __init__(self, kernel: FakeKernel, chip: Chip, cores: tuple[Identity, ...]) -> None:
        self.cores = tuple(map(Core, cores))
        self.idle = threading.Condition(kernel.lock)
        """Notified when a job has ended; of the kernel's lock."""
        self._kernel, self._chip = kernel, chip
        self._calls = _started(f"etnaviv {chip.name}")
        weakref.finalize(self, self._calls.put, None).atexit = False
        self._track = trace.track(chip.name)
        rates = RATES.get(chip.name)
        self._model = Model(chip, rates) if rates is not None else None

    def queue(self, file: EtnavivFile, job: Job, fences: list[Fence]) -> Callable[[], None]:
        """Put a job behind its file's others of the same core; return what starts it.

        fences: further ones that it waits for. The kernel's lock is held, and is not when it is
        started.
        """
        core = job.work.pipe
        waits: list[Signal] = [*fences]
        if (before := file.last[core]) is not None:
            waits.append(before.fence)
        if job.work.waits is not None:
            waits.append(job.work.waits)
        file.last[core] = job
        file.waiting[job] = None
        return lambda: after(waits, lambda: self._calls.put(partial(self._run, file, job)))

    def flush(self, file: EtnavivFile) -> None:
        """Let the jobs of a file end, and kill those that wait for a sync file in vain."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        jobs = list(file.waiting)
        for job in jobs:
            waits = job.work.waits
            if waits is not None and not waits.wait(max(deadline - time.monotonic(), 0)):
                self._kill(file, job)
        wait_all([job.fence for job in jobs])

    def abandon(self, file: EtnavivFile) -> bool:
        """Let the jobs of a file begin for a second more; return whether there are any.

        The last one to end releases the file.
        """
        with self._kernel.lock:
            file.patience = time.monotonic() + _FLUSH_SECONDS
            busy = bool(file.waiting)
        if busy:
            timer = threading.Timer(_FLUSH_SECONDS, self._reap, (file,))
            timer.daemon = True
            timer.start()
        return busy

    def _reap(self, file: EtnavivFile) -> None:
        for job in list(file.waiting):
            self._kill(file, job)

    def _kill(self, file: EtnavivFile, job: Job) -> None:
        if job.claim():
            self._end(file, job, KILLED)

    def release(self, file: EtnavivFile, work: Work) -> None:
        """Release the buffers of a submit."""
        with self._kernel.lock:
            for bo, _, _ in work.bos:
                file.addresses.release(bo)
                self._kernel.put(file, bo)

    def _run(self, file: EtnavivFile, job: Job) -> None:
        if not job.claim():
            return
        began = time.monotonic()
        try:
            self._execute(file, job.work, began)
        except SimulatorFault as error:
            job.fault = error
        except Exception as error:  # a bug of the simulator must not pass for anything else
            job.fault = SimulatorFault(
                f"{job.work.where}: the simulator itself failed with {type(error).__name__}:"
                f" {error}"
            )
            job.fault.__cause__ = error
        if job.fault is not None:
            file.faults = [*file.faults[-_FAULTS_KEPT:], str(job.fault)]
            if self._kernel.real_time and job.fault is not _CUT:
                time.sleep(max(began + _LIMIT - time.monotonic(), 0))
        self._end(file, job, 0 if job.fault is None else FAILED)

    def _end(self, file: EtnavivFile, job: Job, code: int) -> None:
        """Release what a job held, then signal its end."""
        with self._kernel.lock:
            for bo, _, flags in job.work.bos:
                use = use_of(bo)
                use.active -= 1
                use.fault = job.fault or use.fault
                if use.user is not None and flags & uapi.SUBMIT_BO_WRITE and code != KILLED:
                    use.user.changed = use.user.writable
            self.release(file, job.work)
            file.waiting.pop(job, None)
            self.idle.notify_all()
        job.signal(code)
        with self._kernel.lock:
            self.cores[job.work.pipe].forget(job)
            abandoned = file.patience is not None and not file.waiting and not file.closed
        if abandoned:
            self._kernel.release(file)

    def _execute(self, file: EtnavivFile, work: Work, began: float) -> None:
        """Run one submit: the machine sees its buffers and nothing else."""
        core = self.cores[work.pipe]
        broken = self._kernel.breaks_off(lambda: file.cut() or self._late(began))
        if file.cut() or self._late(began):
            raise _CUT if file.cut() else _TIMED_OUT
        started = time.monotonic()
        self._sample(work, uapi.PM_PROCESS_PRE, core)
        self._machine(file, work, core, broken)
        if self._kernel.real_time:
            time.sleep(max(started + core.busy_ms / 1e3 - time.monotonic(), 0))
        self._sample(work, uapi.PM_PROCESS_POST, core)
        for sample in work.samples:
            struct.pack_into("<I", sample.bo.device, 0, sample.sequence)
        if broken:
            raise BROKEN_OFF

    def _late(self, began: float) -> bool:
        return self._kernel.real_time and time.monotonic() - began >= _LIMIT

    def _machine(self, file: EtnavivFile, work: Work, core: Core, broken: bool) -> None:
        half = len(work.stream) // 2 & ~7  # a command has two words
        stream = work.stream[:half] if broken else work.stream
        core.busy_ms = 0
        if core.identity not in self._chip.identities:
            raise SimulatorFault(
                f"{work.where}: pipe {work.pipe} ({core.identity}) is no NPU, must be one to be"
                " simulated"
            )
        memory = file.memory(work.bos)
        flags = {address: use for _, address, use in work.bos}
        machine = Machine(
            self._chip, memory, titles=work.titles, track=self._track, shared=file.shared,
            model=self._model,
        )  # fmt: skip
        try:
            with trace.span(work.where, self._track):
                machine.run_stream(stream, flags, work.where)
        finally:
            core.count(machine.done, self._model)

    def _sample(self, work: Work, flags: int, core: Core) -> None:
        for text in store(work.samples, flags, core.counts):
            self._kernel.complain(f"{work.where}: {text}")
