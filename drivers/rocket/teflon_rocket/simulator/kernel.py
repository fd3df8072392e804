"""The rocket kernel driver in this process: it validates like the real one and runs the machine.

What the real driver drops or allows in silence (jobs with a bad handle, a buffer listed twice, a
buffer closed under a running job) is dropped or allowed here as well, and reported: see
`FakeKernel.complain`.
"""

from __future__ import annotations

import errno
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from teflon import trace
from teflon.timing.schedule import Run, Schedule, Span, Timeline
from teflon_common.caller import check_caller
from teflon_common.fake_drm import (
    BufferObject,
    FakeFile,
    answers,
    copy_from_user,
    pages,
    refuse,
)
from teflon_common.fake_fences import wait_all, wait_until
from teflon_common.memory import DeviceMemory
from teflon_common.structs import Ioctl, Struct
from teflon_rocket import uapi
from teflon_rocket.chips import CORES, Chip
from teflon_rocket.simulator.clock import NOTHING, Work
from teflon_rocket.simulator.jobs import Fence, QueuedJob, RocketFile, TaskRunner, needs
from teflon_rocket.simulator.machine import Machine
from teflon_rocket.simulator.policy import STRICT, Policy
from teflon_rocket.simulator.running import RunningKernel
from teflon_rocket.simulator.timekeeper import Timekeeper

# Ref: docs/hardware/rocket.md §1.4 (interrupts), §1.6 (schedulers), §2.2 (requests)
# Ref: Linux, drivers/accel/rocket/rocket_job.c, rocket_gem.c (order of the checks, errnos)

_TASK_BYTES, _POINTER_BYTES = 16, 8
"""Sizes of struct rocket_task and of a pointer, in the kernel."""
_MOST_TASKS = (1 << 31) // _TASK_BYTES - 1


class RocketKernel(RunningKernel):
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
    node = "accel"

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
        super().__init__(chip, waited, **options)
        self.asynchronous, self._policy = asynchronous, policy
        self._machine = machine or self._simulator
        self._time = Timekeeper(chip, sharing)
        self._opened = itertools.count()

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
        assert isinstance(file, RocketFile)
        super().release(file)
        with self.lock:
            self._time.close(file.number)

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
        if not bo.made_by(file):
            return
        file.memory.unmap(bo.address)
        if file.patience is not None and file.closed and len(bo.files) > 1:
            self.complain(
                "a buffer of a closed file is freed by another one, must be freed before the close"
                " (the real kernel uses the closed file's freed data)"
            )

    def shared(self, file: FakeFile, bo: BufferObject) -> None:
        """Complain of an import that is of no use to the NPU: only its maker's jobs see it."""
        self.complain(
            "PRIME_FD_TO_HANDLE: the buffer is another open file's, whose jobs alone can use it"
            f" (#{bo.address:x} is not mapped in this file's address space)"
        )

    def closing(self, file: FakeFile, bo: BufferObject) -> None:
        """Complain of a buffer that a job still uses but does not list: the kernel unmaps it."""
        assert isinstance(file, RocketFile)
        if file.closed or bo.references > 1:
            return
        for job in file.queue:
            if needs(file.memory, job, bo):
                self.complain(
                    f"GEM_CLOSE: handle {bo.handle} is used by {job.where}, which does not list "
                    "it, must stay open until the job is done (it is unmapped under the device)"
                )

    @answers(uapi.CREATE_BO)
    def create_bo(self, file: FakeFile, argument: uapi.CreateBo) -> None:
        """Make a buffer.

        An empty one gets no mmap offset: ENOSPC. From 2 GiB on the mapped size does not fit the
        kernel's int: ENOMEM.
        """
        if argument.size == 0:
            raise refuse(errno.ENOSPC)
        if pages(argument.size) >= 1 << 31:
            raise refuse(errno.ENOMEM)
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
        done = done and self._wait_for_others(bo, argument.timeout_ns)
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
        if not bo.made_by(file):
            return
        span = Span(bo.address, bo.address + bo.mapped_bytes)
        with self.lock:
            file.clock.until(after or 0.0)
            self._time.touch(file.number, file.clock.now, span, wrote=after is None)

    def _wait(self, fence: Fence, deadline_ns: int) -> bool:
        with self._signal:
            return fence.signalled or wait_until(
                lambda left: self._signal.wait_for(lambda: fence.signalled, left), deadline_ns / 1e9
            )

    @staticmethod
    def _wait_for_others(bo: BufferObject, deadline_ns: int) -> bool:
        """Wait for what others write into a buffer that is shared; False if that took too long."""
        if bo.file is None or not (fences := bo.reservation.fences(writing=False)):
            return True
        return wait_all(fences, deadline_ns / 1e9 - time.monotonic())

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
        jobs = []
        for place, given in enumerate(uapi.read_jobs(argument, copy_from_user)):
            if place % 1024 == 0:
                check_caller()  # who was killed needs nothing of it
            jobs.append(_read(given))
        with self.lock:  # a program that was stopped must not hold it
            number, file.submits = file.submits, file.submits + 1
            try:
                for index, job in enumerate(jobs):
                    self._accept(file, job, index, number)
            finally:
                self.start(file)
        if not self.asynchronous and (worker := file.worker) is not None:
            worker.join()

    def _accept(self, file: RocketFile, job: _Lists | OSError, index: int, number: int) -> None:
        where = f"submit {number} job {index}"
        try:
            if isinstance(job, OSError):
                raise job
            tasks = job.tasks
            reads, writes = _looked_up(file, job)
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
        if any(bo.file is not None for bo in queued.buffers):
            self._share(file, queued)
        file.queue.append(queued)

    def _share(self, file: RocketFile, job: QueuedJob) -> None:
        """Let a job wait for the fences of its buffers, and add its own to those that it writes."""
        for bo in job.reads:
            job.waits += bo.reservation.fences(writing=False)
        for bo in job.writes:
            job.waits += bo.reservation.fences(writing=True)
        job.shared = file.shared_fence(f"{CORES[job.run.core]:x}.npu")
        for bo in job.writes:
            bo.reservation.add(job.shared[0], writes=True)

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


@dataclass(frozen=True)
class _Lists:
    """The arrays of a job: its tasks, and the handles of the buffers that it reads and writes."""

    tasks: list[uapi.Task]
    reads: tuple[int, ...]
    writes: tuple[int, ...]


def _read(job: uapi.Job) -> _Lists | OSError:
    """Return the arrays of a job, checked in the kernel's order, or why it is dropped."""
    try:
        return _Lists(
            _tasks(job),
            _handles(job.in_bo_handles, job.in_bo_handle_count),
            _handles(job.out_bo_handles, job.out_bo_handle_count),
        )
    except OSError as error:
        return error


def _tasks(job: uapi.Job) -> list[uapi.Task]:
    if job.task_count == 0:
        raise OSError(errno.EINVAL, "task_count is 0, must be at least 1")
    if job.task_struct_size < uapi.Task.size_bytes:
        raise OSError(
            errno.EINVAL, f"task_struct_size is {job.task_struct_size}, must be at least 8"
        )
    if job.task_count * _TASK_BYTES >= 1 << 31:
        raise OSError(errno.ENOMEM, f"{job.task_count} tasks, must be at most {_MOST_TASKS}")
    tasks = uapi.read_tasks(job, copy_from_user)
    for index, task in enumerate(tasks):
        if task.regcmd_count == 0:
            raise OSError(errno.EINVAL, f"task {index}: regcmd_count is 0, must be at least 1")
    return tasks


def _handles(pointer: int, count: int) -> tuple[int, ...]:
    if count * _POINTER_BYTES >= 1 << 31:  # kvmalloc gives no more
        raise OSError(errno.ENOMEM, f"a list of {count} handles, must be shorter")
    return uapi.read_handles(pointer, count, copy_from_user)


def _looked_up(file: RocketFile, lists: _Lists) -> tuple[list[BufferObject], list[BufferObject]]:
    """Return the buffers that a job reads and writes. Raises OSError with a reason."""
    seen: set[BufferObject] = set()
    twice = 0
    for handle in (*lists.reads, *lists.writes):
        if handle not in file.handles:
            raise OSError(errno.ENOENT, f"handle {handle} is no buffer of this file")
        if file.handles[handle] in seen:
            twice = twice or handle
        seen.add(file.handles[handle])
    if twice:
        raise OSError(errno.EALREADY, f"handle {twice} is in the buffer lists twice, must be once")
    found = [[file.handles[handle] for handle in part] for part in (lists.reads, lists.writes)]
    return found[0], found[1]


def _cost(machine: TaskRunner, task: uapi.Task) -> Work:
    """Return what a task costs; nothing where it cannot be decoded: running it raises the fault."""
    try:
        return machine.work(task.regcmd, task.regcmd_count)
    except Exception:  # a fault, or a bug of the simulator: both belong to the job, not to SUBMIT
        return NOTHING
