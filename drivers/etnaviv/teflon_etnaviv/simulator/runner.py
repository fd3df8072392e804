"""Runs the jobs of the etnaviv kernel on its machine, one at a time."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
"""How long a file that is closed waits for sync files that its jobs wait for.

Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_flush),
include/drm/gpu_scheduler.h (MAX_WAIT_SCHED_ENTITY_Q_EMPTY)
"""


class Runner:
    """The scheduler of a kernel's cores, and its one machine."""

    def __init__(self, kernel: FakeKernel, chip: Chip, cores: tuple[Identity, ...]) -> None:
        self.cores = tuple(map(Core, cores))
        self.idle = threading.Condition(kernel.lock)
        """Notified when a job has ended; of the kernel's lock."""
        self._kernel, self._chip = kernel, chip
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"etnaviv {chip.name}")
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
        return lambda: after(waits, lambda: self._worker.submit(self._run, file, job))

    def flush(self, file: EtnavivFile) -> None:
        """Let the jobs of a file end before it is closed."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        jobs = list(file.waiting)
        for job in jobs:
            waits = job.work.waits
            if waits is None or waits.wait(max(deadline - time.monotonic(), 0)):
                continue
            if job.claim():
                self._end(file, job, KILLED)
        wait_all([job.fence for job in jobs])

    def release(self, file: EtnavivFile, work: Work) -> None:
        """Release the buffers of a submit."""
        with self._kernel.lock:
            for bo, _, _ in work.bos:
                file.addresses.release(bo)
                self._kernel.put(file, bo)

    def _run(self, file: EtnavivFile, job: Job) -> None:
        if not job.claim():
            return
        try:
            self._execute(file, job.work)
        except SimulatorFault as error:
            job.fault = error
        except Exception as error:  # a bug of the simulator must not pass for anything else
            job.fault = SimulatorFault(
                f"{job.work.where}: the simulator itself failed with {type(error).__name__}:"
                f" {error}"
            )
            job.fault.__cause__ = error
        if job.fault is not None:
            file.faults.append(str(job.fault))
        self._end(file, job, FAILED if job.fault is not None else 0)

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

    def _execute(self, file: EtnavivFile, work: Work) -> None:
        """Run one submit: the machine sees its buffers and nothing else."""
        broken = self._kernel.breaks_off()
        began = time.monotonic()
        core = self.cores[work.pipe]
        self._sample(work, uapi.PM_PROCESS_PRE, core)
        self._machine(file, work, core, broken)
        if self._kernel.real_time:
            time.sleep(max(began + core.busy_ms / 1e3 - time.monotonic(), 0))
        self._sample(work, uapi.PM_PROCESS_POST, core)
        for sample in work.samples:
            struct.pack_into("<I", sample.bo.device, 0, sample.sequence)
        if broken:
            raise BROKEN_OFF

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
