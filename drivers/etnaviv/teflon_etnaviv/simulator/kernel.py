"""The etnaviv kernel driver in this process: validates as the real one does, runs the machine.

Ref: docs/hardware/etnaviv.md section 2.2
Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_drv.c (etnaviv_ioctl_*), etnaviv_gem.c, etnaviv_gpu.c,
etnaviv_perfmon.c, as of 6.12
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from teflon import trace
from teflon_common.caller import caller_pid, check_caller
from teflon_common.fake_drm import BufferObject, FakeFile, FakeKernel, answers, refuse
from teflon_common.fake_fences import Fence, SyncFile, wait_all
from teflon_etnaviv import counters, parameters, uapi
from teflon_etnaviv.chips import Chip, Identity
from teflon_etnaviv.simulator import submit
from teflon_etnaviv.simulator.buffer_use import UserMemory, pages_of, use_of
from teflon_etnaviv.simulator.files import EtnavivFile
from teflon_etnaviv.simulator.jobs import Core, Job
from teflon_etnaviv.simulator.runner import Runner

_NEW_FLAGS = uapi.BO_CACHED | uapi.BO_WRITE_COMBINE | uapi.BO_UNCACHED | uapi.BO_FORCE_MMU
_CACHES = (uapi.BO_CACHED, uapi.BO_WRITE_COMBINE, uapi.BO_UNCACHED)
_PREP_OPS = uapi.PREP_READ | uapi.PREP_WRITE | uapi.PREP_NOSYNC
_USERPTR_FLAGS = uapi.USERPTR_READ | uapi.USERPTR_WRITE
_PAGE = 4096
_U32 = 0xFFFFFFFF
_USER_END = 1 << 48
"""Ref: Linux, arch/arm64/include/asm/processor.h (TASK_SIZE_64 with 48 bits of addresses)"""


class EtnavivKernel(FakeKernel):
    """Answers the etnaviv ioctls for one chip; submits run in order on one thread.

    gpus: identities of cores that come before the NPU on the same node. cores: those of all cores.
    """

    name = "etnaviv"
    description = "etnaviv DRM"
    numbers = uapi.DRM_VERSION
    imports = True
    interface = uapi.ETNAVIV

    def __init__(
        self,
        chip: Chip,
        *,
        gpus: tuple[Identity, ...] = (),
        cores: tuple[Identity, ...] | None = None,
        **options: Any,
    ) -> None:
        # addresses come with submits: those that the base gives are not used
        super().__init__(**{"first_address": 0, "end_address": 1 << 48, "guard": 0, **options})
        self.chip = chip
        identities = (*gpus, chip.identities[0]) if cores is None else cores
        self.runner = Runner(self, chip, identities)

    def open(self) -> EtnavivFile:
        return EtnavivFile(super().open(), len(self.runner.cores))

    def release(self, file: FakeFile) -> None:
        """Release a file once its submits have run, or wait in vain for a sync file."""
        assert isinstance(file, EtnavivFile)
        self.runner.flush(file)
        super().release(file)
        for fault in file.faults:
            if fault not in self.complaints:  # nobody waited for the job
                self.complaints.append(fault)

    def abandon(self, file: FakeFile) -> None:
        """Close a file; the last of its jobs releases it."""
        assert isinstance(file, EtnavivFile)
        if not self.runner.abandon(file):
            self.release(file)

    def unmapped(self, file: FakeFile, bo: BufferObject) -> None:
        """Free the address of a buffer that no handle and no submit holds any more."""
        assert isinstance(file, EtnavivFile)
        file.forget(bo)

    def find_offset(self, file: FakeFile, offset: int, size: int) -> BufferObject:
        """Return the buffer that an mmap maps; memory of a program cannot be mapped once more.

        Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem.c (etnaviv_gem_userptr_mmap_obj)
        """
        bo = super().find_offset(file, offset, size)
        if use_of(bo).user is not None:
            raise refuse(errno.EINVAL)
        return bo

    def ioctl(self, file: FakeFile, request: int, argument: bytearray) -> int:
        assert isinstance(file, EtnavivFile)
        self._give_back(file)
        try:
            return super().ioctl(file, request, argument)
        finally:
            self._give_back(file)

    def _give_back(self, file: EtnavivFile) -> None:
        """Store what jobs wrote in the memory of the program that it belongs to."""
        for bo, user in list(file.users.items()):
            try:
                user.give_back(bo)
            except OSError:
                self._gone(user)

    def _gone(self, user: UserMemory) -> None:
        self.complain(
            f"GEM_USERPTR: #{user.pointer:x} of {user.size} bytes is gone, must stay mapped"
            " while jobs write into it"
        )

    def core(self, pipe: int) -> Core:
        """Return a core of the node. Raises OSError EINVAL, ENXIO."""
        if pipe >= uapi.PIPES_MAX:
            raise refuse(errno.EINVAL)
        if pipe >= len(self.runner.cores):
            raise refuse(errno.ENXIO)
        return self.runner.cores[pipe]

    @answers(uapi.GET_PARAM)
    def get_param(self, file: FakeFile, argument: uapi.GetParam) -> None:
        known = parameters.parameters(self.core(argument.pipe).identity)
        if argument.param not in known:
            raise refuse(errno.EINVAL)
        argument.value = known[argument.param]

    # buffers

    @answers(uapi.GEM_NEW)
    def gem_new(self, file: FakeFile, argument: uapi.GemNew) -> None:
        """Make a buffer. The kernel keeps 32 bits of the size, and makes one of size 0 too."""
        cache = argument.flags & uapi.BO_CACHE_MASK
        if argument.flags & ~_NEW_FLAGS or cache not in _CACHES:
            raise refuse(errno.EINVAL)
        size = (argument.size + _PAGE - 1) & ~(_PAGE - 1) & _U32
        bo = self.create(file, min(argument.size, size) or 1)
        use = use_of(bo)
        use.cache, use.empty = cache, size == 0
        argument.handle = bo.handle

    @answers(uapi.GEM_USERPTR)
    def gem_userptr(self, file: FakeFile, argument: uapi.GemUserptr) -> None:
        """Make a buffer of the caller's memory, which need not be there before a submit."""
        assert isinstance(file, EtnavivFile)
        pointer, size, flags = argument.user_ptr, argument.user_size, argument.flags
        if flags & ~_USERPTR_FLAGS or not flags or (pointer | size) % _PAGE or size > _U32:
            raise refuse(errno.EINVAL)
        if pointer + size > _USER_END:
            raise refuse(errno.EFAULT)
        bo = self.create(file, size or 1)
        use = use_of(bo)
        use.cache, use.empty = uapi.BO_CACHED, size == 0
        use.user = UserMemory(pointer, size, bool(flags & uapi.USERPTR_WRITE), caller_pid())
        file.users[bo] = use.user
        argument.handle = bo.handle

    @answers(uapi.GEM_INFO)
    def gem_info(self, file: FakeFile, argument: uapi.GemInfo) -> None:
        """Tell where to map a buffer. Ref: Linux, drivers/gpu/drm/drm_vma_manager.c (ENOSPC)"""
        if argument.pad:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        if use_of(bo).empty:
            raise refuse(errno.ENOSPC)
        argument.offset = bo.offset

    @answers(uapi.GEM_CPU_PREP)
    def gem_cpu_prep(self, file: FakeFile, argument: uapi.GemCpuPrep) -> None:
        """Wait for a buffer; the fault of the submit that used it, if any, surfaces here."""
        if argument.op & ~_PREP_OPS:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        use = use_of(bo)
        if use.empty or use.user is not None:
            pages_of(bo)
        polling = bool(argument.op & uapi.PREP_NOSYNC)
        with self.lock:
            fences = bo.reservation.fences(bool(argument.op & uapi.PREP_WRITE))
        _await(fences, argument, polling)
        if use.fault is not None:
            raise use.fault
        use.prepared = argument.op
        bo.sync_for_cpu()

    @answers(uapi.GEM_CPU_FINI)
    def gem_cpu_fini(self, file: FakeFile, argument: uapi.GemCpuFini) -> None:
        if argument.flags:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        use = use_of(bo)
        if bo.reservation.fences(writing=use.prepared != uapi.PREP_READ):
            self.complain(
                f"GEM_CPU_FINI: handle {bo.handle} is given back while a submit uses it, must be"
                " given back before the submit or after its end"
            )
        if use.cache == uapi.BO_CACHED and not use.prepared:
            self.complain(
                f"GEM_CPU_FINI: handle {bo.handle} is cached and given back without a GEM_CPU_PREP"
                " before, must have one (the kernel warns too)"
            )
        use.prepared = 0
        bo.sync_for_device()

    @answers(uapi.GEM_WAIT)
    def gem_wait(self, file: FakeFile, argument: uapi.GemWait) -> None:
        """Wait until no job uses a buffer.

        Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gpu.c (etnaviv_gpu_wait_obj_inactive)
        """
        if argument.flags & ~uapi.WAIT_NONBLOCK:
            raise refuse(errno.EINVAL)
        self.core(argument.pipe)
        use = use_of(file.lookup(argument.handle))
        polling = bool(argument.flags & uapi.WAIT_NONBLOCK)
        with self.runner.idle:
            while use.active:
                seconds = 0 if polling else _seconds_left(argument)
                if not seconds:
                    raise refuse(errno.EBUSY if polling else errno.ETIMEDOUT)
                self.runner.idle.wait(min(seconds, _LOOK_SECONDS))
                check_caller()

    # submits

    @answers(uapi.WAIT_FENCE)
    def wait_fence(self, file: FakeFile, argument: uapi.WaitFence) -> None:
        """Wait for a fence of any open file; one that is not known counts as signalled.

        Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gpu.c (etnaviv_gpu_wait_fence_interruptible)
        """
        if argument.flags & ~uapi.WAIT_NONBLOCK:
            raise refuse(errno.EINVAL)
        core = self.core(argument.pipe)
        with self.lock:
            job = core.find(argument.fence)
        if job is not None:
            _await([job.fence], argument, bool(argument.flags & uapi.WAIT_NONBLOCK))
            if job.fault is not None:
                raise job.fault

    @answers(uapi.GEM_SUBMIT)
    def gem_submit(self, file: FakeFile, argument: uapi.Submit) -> None:
        """Check a submit in the kernel's order, then queue it."""
        assert isinstance(file, EtnavivFile)
        core = self.core(argument.pipe)
        submit.check(argument)
        job = file.job(self._work(file, argument, submit.read(argument)))
        number = -1
        if argument.flags & uapi.SUBMIT_FENCE_FD_OUT:
            try:
                number = SyncFile([job.fence]).give()
            except BaseException:
                self.runner.release(file, job.work)
                raise
        with self.lock:
            core.give_number(job)
            argument.fence, argument.fence_fd = job.number, number
            file.submits += 1
            start = self.runner.queue(file, job, self._attach(argument, job))
        start()

    def _work(self, file: EtnavivFile, argument: uapi.Submit, passed: submit.Passed) -> submit.Work:
        checked = submit.Submission(argument, passed, file.addresses)
        with self.lock:
            try:
                checked.validate(file.handles.get)
            except BaseException:
                checked.give_up(lambda bo: self.put(file, bo))
                raise
            return submit.Work(
                where=f"submit {file.submits}",
                pipe=argument.pipe,
                stream=checked.stream,
                bos=checked.listed(),
                samples=tuple(checked.samples),
                waits=passed.waits,
                titles=tuple(map(str, trace.submitted())),
            )

    @staticmethod
    def _attach(argument: uapi.Submit, job: Job) -> list[Fence]:
        """Let buffers wait for a job; return the fences that it waits for itself.

        Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem_submit.c (submit_fence_sync,
        submit_attach_object_fences)
        """
        waits: list[Fence] = []
        for bo, _, flags in job.work.bos:
            use, writes = use_of(bo), bool(flags & uapi.SUBMIT_BO_WRITE)
            if not argument.flags & uapi.SUBMIT_NO_IMPLICIT:
                waits += bo.reservation.fences(writes)
            bo.reservation.add(job.fence, writes)
            use.active += 1
            use.fault = None
        return waits

    # counters

    @answers(uapi.PM_QUERY_DOM)
    def pm_query_dom(self, file: FakeFile, argument: uapi.PmDomain) -> None:
        domains = self._domains(argument.pipe)
        if argument.iter >= len(domains):
            raise refuse(errno.EINVAL)
        found = domains[argument.iter]
        argument.id, argument.nr_signals = argument.iter, len(found.signals)
        argument.name = found.name.encode()
        argument.iter = argument.iter + 1 if argument.iter + 1 < len(domains) else 0xFF

    @answers(uapi.PM_QUERY_SIG)
    def pm_query_sig(self, file: FakeFile, argument: uapi.PmSignal) -> None:
        domains = self._domains(argument.pipe)
        if argument.domain >= len(domains):
            raise refuse(errno.EINVAL)
        signals = domains[argument.domain].signals
        if argument.iter >= len(signals):
            raise refuse(errno.EINVAL)
        argument.id, argument.name = argument.iter, signals[argument.iter].encode()
        argument.iter = argument.iter + 1 if argument.iter + 1 < len(signals) else 0xFFFF

    def _domains(self, pipe: int) -> tuple[counters.Domain, ...]:
        return counters.of_core(parameters.core(self.core(pipe).identity).pipes)


_Timed = uapi.GemCpuPrep | uapi.WaitFence | uapi.GemWait
_clock: Callable[[], int] = time.monotonic_ns
_LOOK_SECONDS = 0.25
"""How often a wait looks whether the program is still there."""


def _seconds_left(argument: _Timed) -> float:
    """Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_drv.h (etnaviv_timeout_to_jiffies)"""
    left = (argument.sec * 10**9 + argument.nsec - _clock()) / 1e9
    return max(min(left, threading.TIMEOUT_MAX), 0)


def _await(fences: Iterable[Fence], argument: _Timed, polling: bool) -> None:
    """Wait for fences. Raises OSError EBUSY, ETIMEDOUT; EINTR once nobody waits for the answer."""
    fences = list(fences)
    while not wait_all(fences, 0 if polling else min(_seconds_left(argument), _LOOK_SECONDS)):
        if polling:
            raise refuse(errno.EBUSY)
        if not _seconds_left(argument):
            raise refuse(errno.ETIMEDOUT)
        check_caller()
