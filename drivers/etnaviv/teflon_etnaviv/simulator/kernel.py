"""The etnaviv kernel driver in this process: validates as the real one does, runs the machine.

Ref: docs/hardware/etnaviv.md section 2.2
Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_drv.c, etnaviv_gem_submit.c, etnaviv_gem.c
"""

from __future__ import annotations

import errno
import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from teflon import trace
from teflon.errors import SimulatorFault
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
from teflon_etnaviv import uapi
from teflon_etnaviv.chips import Chip, Identity
from teflon_etnaviv.simulator.machine import Machine, Shared

_SUBMIT_FLAGS = uapi.SUBMIT_NO_IMPLICIT | uapi.SUBMIT_SOFTPIN
"""The flags that are supported; those for fence files are refused with EINVAL."""
_BO_FLAGS = uapi.SUBMIT_BO_READ | uapi.SUBMIT_BO_WRITE
_NEW_FLAGS = uapi.BO_CACHED | uapi.BO_WRITE_COMBINE | uapi.BO_UNCACHED | uapi.BO_FORCE_MMU
_PREP_OPS = uapi.PREP_READ | uapi.PREP_WRITE | uapi.PREP_NOSYNC


_LISTS_KEPT = 16
Listed = tuple[tuple[BufferObject, int, int], ...]
"""Buffer, address and flags of each entry of a submit's list."""


@dataclass(frozen=True)
class Work:
    """A submit that passed validation: its stream, and (buffer, address, flags) of its list."""

    where: str
    stream: bytes
    bos: Listed
    titles: tuple[str, ...] = ()
    """The submitter's names for what the stream starts."""


class EtnavivFile(FakeFile):
    """An open file: where its buffers are pinned in its own GPU address space."""

    def __init__(self, base: FakeFile) -> None:
        super().__init__(base.space)
        self.pinned: dict[BufferObject, int] = {}
        self.submits = 0
        self.shared = Shared()
        self._seen: dict[Listed, DeviceMemory] = {}
        self.last: Future[None] | None = None

    def memory(self, bos: Listed) -> DeviceMemory:
        """Return what the machine sees: the buffers of a submit and nothing else."""
        seen = self._seen
        if bos in seen:
            return seen[bos]
        memory = DeviceMemory()
        for bo, address, _ in bos:
            memory.map(address, memoryview(bo.device), f"bo {bo.handle}")
        if len(seen) >= _LISTS_KEPT:
            seen.clear()
        seen[bos] = memory
        return memory

    def forget(self, bo: BufferObject) -> None:
        """Forget a closed buffer: its address may be given to another one."""
        self.pinned.pop(bo, None)
        self._seen = {}


class EtnavivKernel(FakeKernel):
    """Answers the etnaviv ioctls for one chip; submits run in order on one thread.

    gpus: identities of cores that come before the NPU on the same node. cores: those of all cores.
    """

    name = "etnaviv"
    description = "etnaviv DRM"
    interface = uapi.ETNAVIV
    numbers = (1, 4, 0)
    imports = True

    def __init__(
        self,
        chip: Chip,
        *,
        gpus: tuple[Identity, ...] = (),
        cores: tuple[Identity, ...] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.chip = chip
        self.cores = (*gpus, chip.identities[0]) if cores is None else cores
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"etnaviv {chip.name}")
        self._fences: dict[int, Future[None]] = {}
        self._fence = 0
        self._track = trace.track(chip.name)
        self._guard = threading.Lock()

    def open(self) -> EtnavivFile:
        return EtnavivFile(super().open())

    def release(self, file: FakeFile) -> None:
        """Release a file once its queued submits have run."""
        assert isinstance(file, EtnavivFile)
        if file.last is not None:
            wait([file.last])
        super().release(file)

    def unmapped(self, file: FakeFile, bo: BufferObject) -> None:
        """Free the address of a buffer that no handle and no submit holds any more."""
        assert isinstance(file, EtnavivFile)
        file.forget(bo)

    def _pipe(self, pipe: int) -> Identity:
        if pipe >= uapi.PIPES_MAX:
            raise refuse(errno.EINVAL)
        if pipe >= len(self.cores):
            raise refuse(errno.ENXIO)
        return self.cores[pipe]

    @answers(uapi.GET_PARAM)
    def get_param(self, file: FakeFile, argument: uapi.GetParam) -> None:
        core = self._pipe(argument.pipe)
        known = {
            uapi.PARAM_MODEL: core.model,
            uapi.PARAM_REVISION: core.revision,
            uapi.PARAM_PRODUCT: core.product,
            uapi.PARAM_CUSTOMER: core.customer,
            uapi.PARAM_ECO: core.eco,
            uapi.PARAM_SOFTPIN_START: uapi.SOFTPIN_START,
        }
        if argument.param not in known:
            raise refuse(errno.EINVAL)
        argument.value = known[argument.param]

    @answers(uapi.GEM_NEW)
    def gem_new(self, file: FakeFile, argument: uapi.GemNew) -> None:
        if argument.flags & ~_NEW_FLAGS:
            raise refuse(errno.EINVAL)
        argument.handle = self.create(file, argument.size).handle

    @answers(uapi.GEM_INFO)
    def gem_info(self, file: FakeFile, argument: uapi.GemInfo) -> None:
        if argument.pad:
            raise refuse(errno.EINVAL)
        argument.offset = file.lookup(argument.handle).offset

    @answers(uapi.GEM_CPU_PREP)
    def gem_cpu_prep(self, file: FakeFile, argument: uapi.GemCpuPrep) -> None:
        """Wait for a buffer; the fault of the submit that used it, if any, surfaces here."""
        if argument.op & ~_PREP_OPS:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        if bo.fence is not None:
            polling = bool(argument.op & uapi.PREP_NOSYNC)
            self._await(bo.fence, 0 if polling else _seconds_left(argument), polling)
        bo.sync_for_cpu()

    @staticmethod
    def _await(fence: Future[None], seconds: float, polling: bool) -> None:
        if not wait([fence], seconds).done:
            raise refuse(errno.EBUSY if polling else errno.ETIMEDOUT)
        fence.result()

    @answers(uapi.GEM_CPU_FINI)
    def gem_cpu_fini(self, file: FakeFile, argument: uapi.GemCpuFini) -> None:
        if argument.flags:
            raise refuse(errno.EINVAL)
        bo = file.lookup(argument.handle)
        if bo.fence is not None and not bo.fence.done():
            self.complain(
                f"GEM_CPU_FINI: handle {bo.handle} is given back while a submit uses it, must be"
                " given back before the submit or after its end"
            )
        bo.sync_for_device()

    @answers(uapi.WAIT_FENCE)
    def wait_fence(self, file: FakeFile, argument: uapi.WaitFence) -> None:
        self._pipe(argument.pipe)
        if argument.flags & ~uapi.WAIT_NONBLOCK or argument.fence not in self._fences:
            raise refuse(errno.EINVAL if argument.flags & ~uapi.WAIT_NONBLOCK else errno.ENOENT)
        polling = bool(argument.flags & uapi.WAIT_NONBLOCK)
        seconds = 0 if polling else _seconds_left(argument)
        self._await(self._fences[argument.fence], seconds, polling)

    @answers(uapi.GEM_SUBMIT)
    def gem_submit(self, file: FakeFile, argument: uapi.Submit) -> None:
        """Check a submit in the kernel's order, then queue it."""
        assert isinstance(file, EtnavivFile)
        self._pipe(argument.pipe)
        if (
            argument.stream_size % 4
            or argument.exec_state >= uapi.EXEC_STATES
            or argument.flags & ~_SUBMIT_FLAGS
            or argument.pad
        ):
            raise refuse(errno.EINVAL)
        softpin = bool(argument.flags & uapi.SUBMIT_SOFTPIN)
        if argument.nr_relocs or argument.nr_pmrs or (argument.nr_bos and not softpin):
            raise refuse(errno.EINVAL)
        with self._guard:
            work = self._validated(file, argument)
            self._fence += 1
            argument.fence = self._fence
            file.submits += 1
            for bo, _, _ in work.bos:
                bo.references += 1
            future = self._worker.submit(self._run, file, work)
            file.last = self._fences[self._fence] = future
            for bo, _, _ in work.bos:
                bo.fence = future

    def _validated(self, file: EtnavivFile, argument: uapi.Submit) -> Work:
        listed = _listed(copy_from_user(argument.bos, argument.nr_bos * uapi.SubmitBo.size_bytes))
        stream = copy_from_user(argument.stream, argument.stream_size)
        bos, seen = [], set()
        for entry in listed:
            if entry.flags & ~_BO_FLAGS or entry.handle not in file.handles:
                raise refuse(errno.EINVAL)
            if entry.handle in seen:
                raise refuse(errno.EALREADY)
            seen.add(entry.handle)
            bo = file.handles[entry.handle]
            self._pin(file, bo, entry.presumed)
            bos.append((bo, entry.presumed, entry.flags))
        return Work(
            f"submit {file.submits}", stream, tuple(bos), tuple(map(str, trace.submitted()))
        )

    @staticmethod
    def _pin(file: EtnavivFile, bo: BufferObject, address: int) -> None:
        """Map a buffer where it is asked for. Raises OSError EINVAL or ENOSPC."""
        if file.pinned.get(bo) == address:
            return
        end = address + bo.mapped_bytes
        if address < uapi.SOFTPIN_START or address % 4096 or end > 1 << 32:
            raise refuse(errno.EINVAL)
        for other, at in file.pinned.items():
            if other is not bo and at < end and address < at + other.mapped_bytes:
                raise refuse(errno.ENOSPC)
        file.pinned[bo] = address

    def _run(self, file: EtnavivFile, work: Work) -> None:
        """Run one submit: the machine sees its buffers and nothing else."""
        broken = self.breaks_off()
        half = len(work.stream) // 2 & ~7  # a command has two words
        try:
            memory = file.memory(work.bos)
            flags = {address: use for _, address, use in work.bos}
            machine = Machine(
                self.chip, memory, titles=work.titles, track=self._track, shared=file.shared
            )
            with trace.span(work.where, self._track):
                machine.run_stream(work.stream[:half] if broken else work.stream, flags, work.where)
            if broken:
                raise BROKEN_OFF
        except SimulatorFault:
            raise
        except Exception as error:  # a bug of the simulator must not pass for anything else
            raise SimulatorFault(
                f"{work.where}: the simulator itself failed with {type(error).__name__}: {error}"
            ) from error
        finally:
            for bo, _, _ in work.bos:
                self.put(file, bo)


@functools.lru_cache(maxsize=_LISTS_KEPT)
def _listed(raw: bytes) -> tuple[uapi.SubmitBo, ...]:
    """Return the entries of a submit's list of buffers; callers must not change them."""
    step = uapi.SubmitBo.size_bytes
    return tuple(uapi.SubmitBo.unpack(raw[at : at + step]) for at in range(0, len(raw), step))


_Timed = uapi.GemCpuPrep | uapi.WaitFence
_clock: Callable[[], float] = time.monotonic


def _seconds_left(argument: _Timed) -> float:
    return max(min(argument.sec + argument.nsec / 1e9 - _clock(), threading.TIMEOUT_MAX), 0)
