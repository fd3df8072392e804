"""The rocket kernel driver in this process: it validates like the real one and runs the machine.

What the real driver drops or allows in silence (jobs with a bad handle, a buffer listed twice, a
buffer closed under a running job) is dropped or allowed here as well, and reported: see
`FakeKernel.complain`.
"""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from teflon import trace
from teflon.errors import SimulatorFault
from teflon.timing.schedule import Run, Schedule, Span, Timeline
from teflon_common.fake_drm import (
    BROKEN_OFF,
    BufferObject,
    FakeFile,
    FakeKernel,
    answers,
    copy_from_user,
    refuse,
)
from teflon_common.memory import DeviceMemory
from teflon_common.structs import Ioctl, Struct
from teflon_rocket import uapi
from teflon_rocket.addresses import addresses
from teflon_rocket.chips import Chip
from teflon_rocket.simulator.clock import NOTHING, Work
from teflon_rocket.simulator.jobs import Fence, QueuedJob, RocketFile, TaskRunner
from teflon_rocket.simulator.machine import Machine
from teflon_rocket.simulator.policy import STRICT, Policy
from teflon_rocket.simulator.timekeeper import Timekeeper

# Ref: docs/hardware/rocket.md §1.4 (interrupts), §1.6 (schedulers), §2.2 (requests)
# Ref: Linux, drivers/accel/rocket/rocket_job.c, rocket_gem.c (order of the checks, errnos)


class RocketKernel(FakeKernel):
    """Answers the rocket ioctls for one chip; jobs run on a simulated machine.

    asynchronous: SUBMIT returns before the jobs have run, as on silicon; else after.
    machine: makes the machine of an open file; the chip's simulator by default.
    policy: what that simulator tolerates.
    sharing: by how much slower memory is than for a core alone, in modelled time.
    waited: bits of PC.INTERRUPT_STATUS at one of which it takes a task for done; as mainline's.
    """

    name = "rocket"
    description = "rocket DRM"
    interface = uapi.ROCKET

    def __init__(
        self,
        chip: Chip,
        *,
        asynchronous: bool = True,
        machine: Callable[[DeviceMemory], TaskRunner] | None = None,
        policy: Policy = STRICT,
        sharing: float = 1.0,
        waited: int = uapi.WAITED,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.chip, self.asynchronous, self._policy = chip, asynchronous, policy
        self._waited = waited
        self._machine = machine or self._simulator
        self._signal = threading.Condition(self.lock)
        self._cores = [threading.Lock() for _ in range(chip.cores)]
        self._time = Timekeeper(chip, sharing)
        self._opened = itertools.count()
        self._tracks = [trace.track(f"{chip.name} core {n}") for n in range(chip.cores)]

    def _simulator(self, memory: DeviceMemory) -> TaskRunner:
        return Machine(self.chip, memory, self._policy)

    def open(self) -> RocketFile:
        return RocketFile(super().open(), self._machine, next(self._opened))

    def timeline(self, file: FakeFile) -> Timeline:
        assert isinstance(file, RocketFile)
        return Timeline(file.number, file.clock, self.schedule)

    def schedule(self) -> Schedule:
        """Return when every job ran by the model of time, and when the CPU used buffers."""
        with self.lock:
            return self._time.schedule()

    def release(self, file: FakeFile) -> None:
        """Close a file when its queued jobs have run to their end, as in the kernel."""
        assert isinstance(file, RocketFile)
        if (worker := file.worker) is not None:
            worker.join()
        with self.lock:
            self._time.close(file.number)
        super().release(file)

    def entry(self, ioctl: Ioctl, after: Struct, code: int) -> dict[str, Any]:
        if not isinstance(after, uapi.Submit):
            return uapi.log_entry(ioctl, after) | ({"errno": code} if code else {})
        try:
            return uapi.log_entry(ioctl, after, copy_from_user) | {"errno": code}
        except OSError:
            return {"errno": code}

    # buffers

    def mapped(self, file: FakeFile, bo: BufferObject) -> None:
        assert isinstance(file, RocketFile)
        file.memory.map(bo.address, memoryview(bo.device), f"bo {bo.handle}")

    def unmapped(self, file: FakeFile, bo: BufferObject) -> None:
        assert isinstance(file, RocketFile)
        file.memory.unmap(bo.address)

    def closing(self, file: FakeFile, bo: BufferObject) -> None:
        """Complain of a buffer that a job still uses but does not list: the kernel unmaps it."""
        assert isinstance(file, RocketFile)
        if file.closed or bo.references > 1:
            return
        for job in file.queue:
            if _needs(file.memory, job, bo):
                self.complain(
                    f"GEM_CLOSE: handle {bo.handle} is used by {job.where}, which does not list "
                    "it, must stay open until the job is done (it is unmapped under the device)"
                )

    @answers(uapi.CREATE_BO)
    def create_bo(self, file: FakeFile, argument: uapi.CreateBo) -> None:
        bo = self.create(file, argument.size)
        argument.handle, argument.dma_address, argument.offset = bo.handle, bo.address, bo.offset

    @answers(uapi.PREP_BO)
    def prep_bo(self, file: FakeFile, argument: uapi.PrepBo) -> None:
        """Wait for the job that writes the buffer, and raise its fault, if it had one, once.

        The real kernel reports no fault: there the wait just ends.
        """
        if argument.reserved:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        polling = argument.timeout_ns <= time.monotonic_ns()
        fence: Fence | None = bo.fence
        done = fence is None or self._wait(fence, argument.timeout_ns)
        bo.sync_for_cpu()  # the kernel does it even when the wait failed
        if not done:
            raise refuse(errno.EBUSY if polling else errno.ETIMEDOUT)
        self._touched(file, bo, 0.0 if fence is None else fence.end)
        if fence is not None and fence.fault is not None:
            bo.fence = None
            raise fence.fault

    def _touched(self, file: FakeFile, bo: BufferObject, after: float | None = None) -> None:
        """Note that the CPU has written a buffer, or may read it `after` a time."""
        assert isinstance(file, RocketFile)
        span = Span(bo.address, bo.address + bo.mapped_bytes)
        with self.lock:
            file.clock.until(after or 0.0)
            self._time.touch(file.number, file.clock.now, span, wrote=after is None)

    def _wait(self, fence: Fence, deadline_ns: int) -> bool:
        with self._signal:
            while not fence.signalled:
                left = (deadline_ns - time.monotonic_ns()) / 1e9
                if left <= 0:
                    return False
                self._signal.wait(min(left, threading.TIMEOUT_MAX))
        return True

    @answers(uapi.FINI_BO)
    def fini_bo(self, file: FakeFile, argument: uapi.FiniBo) -> None:
        assert isinstance(file, RocketFile)
        if argument.reserved:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        self._touched(file, bo)
        with self.lock:
            users = [job.where for job in file.queue if bo in job.buffers]
        if users:
            self.complain(
                f"FINI_BO: handle {bo.handle} is given back while {users[0]} uses it, must be "
                "written before the job or after it (a reader leaves no fence: wait for its output)"
            )
        bo.sync_for_device()

    # jobs

    @answers(uapi.SUBMIT)
    def submit(self, file: FakeFile, argument: uapi.Submit) -> None:
        """Queue jobs. Only a bad argument fails; a bad job is dropped, as in the kernel."""
        assert isinstance(file, RocketFile)
        if argument.job_count == 0:
            return
        if argument.job_struct_size < uapi.Job.size_bytes or argument.reserved:
            raise refuse(errno.EINVAL)
        if argument.job_count * uapi.Job.size_bytes >= 1 << 31:  # kvmalloc gives no more
            raise refuse(errno.ENOMEM)
        jobs = uapi.read_jobs(argument, copy_from_user)
        with self.lock:
            number, file.submits = file.submits, file.submits + 1
            try:
                for index, job in enumerate(jobs):
                    self._accept(file, job, index, number)
            finally:
                self._start(file)
        if not self.asynchronous and (worker := file.worker) is not None:
            worker.join()

    def _accept(self, file: RocketFile, job: uapi.Job, index: int, number: int) -> None:
        where = f"submit {number} job {index}"
        try:
            tasks, reads, writes = self._validated(file, job)
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "?")
            self.complain(f"SUBMIT: {where} is dropped with {code}: {error.strerror}")
            return
        run, names = self._scheduled(file, tasks, index, number)
        queued = QueuedJob(where, number, tasks, reads, writes, run, names, Fence(run.end))
        for bo in queued.buffers:
            bo.references += 1
        for bo in queued.writes:
            bo.fence = queued.fence
        file.queue.append(queued)

    def _scheduled(
        self, file: RocketFile, tasks: Sequence[uapi.Task], index: int, number: int
    ) -> tuple[Run, tuple[str, ...]]:
        """Return when a job runs in modelled time, and the names of its tasks' operations."""
        works = [_cost(file.machine, task) for task in tasks]
        name = trace.label(index, f"submit {number} job {index}")
        run = self._time.submit(file.number, (number, index), file.clock.now, works, name)
        names = trace.part_labels(index)
        self._time.show(run, works, names)
        return run, names

    def _validated(
        self, file: RocketFile, job: uapi.Job
    ) -> tuple[list[uapi.Task], list[BufferObject], list[BufferObject]]:
        """Return tasks and buffer lists, checked in the kernel's order.

        Raises OSError with the reason as its text.
        """
        if job.task_count == 0:
            raise OSError(errno.EINVAL, "task_count is 0, must be at least 1")
        if job.task_struct_size < uapi.Task.size_bytes:
            raise OSError(
                errno.EINVAL, f"task_struct_size is {job.task_struct_size}, must be at least 8"
            )
        tasks = uapi.read_tasks(job, copy_from_user)
        for index, task in enumerate(tasks):
            if task.regcmd_count == 0:
                raise OSError(errno.EINVAL, f"task {index}: regcmd_count is 0, must be at least 1")
        reads = self._look_up(file, job.in_bo_handles, job.in_bo_handle_count)
        writes = self._look_up(file, job.out_bo_handles, job.out_bo_handle_count)
        seen: set[int] = set()
        for bo in reads + writes:
            if bo.handle in seen:
                raise OSError(
                    errno.EALREADY, f"handle {bo.handle} is in the buffer lists twice, must be once"
                )
            seen.add(bo.handle)
        return tasks, reads, writes

    @staticmethod
    def _look_up(file: RocketFile, pointer: int, count: int) -> list[BufferObject]:
        handles = uapi.read_handles(pointer, count, copy_from_user)
        for handle in handles:
            if handle not in file.handles:
                raise OSError(errno.ENOENT, f"handle {handle} is no buffer of this file")
        return [file.handles[handle] for handle in handles]

    def _start(self, file: RocketFile) -> None:
        """Let a worker run the queue, each job on the core that it has in modelled time."""
        if file.worker is not None or not file.queue:
            return
        file.worker = threading.Thread(
            target=self._work, args=(file,), name=f"rocket file {file.number}", daemon=True
        )
        file.worker.start()

    def _work(self, file: RocketFile) -> None:
        while True:
            with self.lock:
                if not file.queue:
                    file.worker = None
                    return
                job = file.queue[0]
            with self._cores[job.run.core]:
                track = self._tracks[job.run.core]
                with trace.span(job.run.name, track, job=job.where, tasks=len(job.tasks)):
                    fault = self._run(file, job, track)
            with self._signal:
                job.fence.signalled, job.fence.fault = True, fault
                file.queue.popleft()
                for bo in job.buffers:
                    self.put(file, bo)
                self._signal.notify_all()

    def _run(self, file: RocketFile, job: QueuedJob, track: int) -> SimulatorFault | None:
        """Run a job; after a fault the next jobs of the same SUBMIT end with it and do not run."""
        if file.failed is not None and file.failed[0] == job.submit:
            return file.failed[1]
        broken = self.breaks_off()
        try:
            for name, group in groupby(range(len(job.tasks)), lambda n: job.operation(n)):
                with trace.span(name, track, operation=name):
                    for index in group:
                        self._run_task(file, job, index, track)
                        if broken:
                            raise BROKEN_OFF
        except SimulatorFault as found:
            file.failed = (job.submit, found)
            return found
        except Exception as error:  # a bug of the simulator must not leave its user waiting
            fault = SimulatorFault(
                f"{job.where}: the simulator itself failed with {type(error).__name__}: {error}"
            )
            fault.__cause__ = error
            file.failed = (job.submit, fault)
            return fault
        return None

    def _run_task(self, file: RocketFile, job: QueuedJob, index: int, track: int) -> None:
        task = job.tasks[index]
        with trace.span(f"task {index}", track, words=task.regcmd_count):
            where = f"{job.where} task {index}"
            file.machine.run_task(task.regcmd, task.regcmd_count, job.run.core, where)
            raised = file.machine.interrupts(task.regcmd, task.regcmd_count)
            if not raised & self._waited:
                raise SimulatorFault(f"{where}: {_hang(raised, self._waited)}")


def _hang(raised: int, waited: int) -> str:
    return (
        f"PC.INTERRUPT_STATUS: its units raise #{raised:x}, must raise a bit of #{waited:x}, for"
        " which the kernel waits (the job hangs: the kernel ends it after"
        f" {uapi.JOB_MILLISECONDS} ms and resets the core)"
    )


def _cost(machine: TaskRunner, task: uapi.Task) -> Work:
    """Return what a task costs; nothing where it cannot be decoded: running it raises the fault."""
    try:
        return machine.work(task.regcmd, task.regcmd_count)
    except Exception:  # a fault, or a bug of the simulator: both belong to the job, not to SUBMIT
        return NOTHING


def _needs(memory: DeviceMemory, job: QueuedJob, bo: BufferObject) -> bool:
    """Whether a job's command lists lie in a buffer or name an address in it."""
    end = bo.address + bo.mapped_bytes
    for task in job.tasks:
        if bo.address <= task.regcmd < end:
            return True
        if (mapping := memory.find(task.regcmd)) is None:
            continue  # running it is a fault of its own
        start = task.regcmd - mapping.address
        commands = mapping.data[start : start + 8 * task.regcmd_count]
        if any(bo.address <= address < end for _, _, address in addresses(commands)):
            return True
    return False
