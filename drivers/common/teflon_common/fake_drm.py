"""Fake kernel drivers: methods answer ioctls in this process, `FakeWinsys` is an open file.

    class NullKernel(FakeKernel):
        interface = Uapi("null", (VERSION, GEM_CLOSE, CREATE_BO))

        @answers(CREATE_BO)
        def create_bo(self, file: FakeFile, argument: CreateBo) -> None:
            bo = self.create(file, argument.size)
            argument.handle, argument.offset = bo.handle, bo.offset

Each open file has its own handles and its own address space, as in a real DRM driver. Buffers are
anonymous memory, and `mmap` returns views of it. A refused request raises an OSError.
"""

from __future__ import annotations

import collections
import errno
import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from teflon import forks, interrupts
from teflon.debug import enabled, log
from teflon.errors import SimulatorFault
from teflon.forks import check_process
from teflon.pipe import Complaints, Timeline, Winsys
from teflon_common.caller import copy_from_user as copy_from_user
from teflon_common.caller import refuse as refuse
from teflon_common.drm_core import CORE, REFUSED, flags, permits
from teflon_common.fake_buffers import PAGE as PAGE
from teflon_common.fake_buffers import AddressSpace as AddressSpace
from teflon_common.fake_buffers import BufferObject as BufferObject
from teflon_common.fake_buffers import pages as pages
from teflon_common.fake_core import CoreRequests
from teflon_common.fake_files import MemoryFile
from teflon_common.fake_master import FakeFile as FakeFile
from teflon_common.fake_master import answers as answers
from teflon_common.structs import Ioctl, RequestFields, Struct, Uapi, request_fields

_Answer = Callable[[FakeFile, Any], int | None]

_FIRST_OFFSET = 0x1_0000_0000
"""The first mmap offset. Ref: Linux, include/drm/drm_vma_manager.h (64-bit machines)."""

_LOG_LENGTH = 4096
_PATIENCE = 1.0
"""Seconds for which the close of a file waits. Ref: Linux, include/drm/gpu_scheduler.h
(MAX_WAIT_SCHED_ENTITY_Q_EMPTY)
"""

BROKEN_OFF = SimulatorFault("the job stops half way, as the board's rules for faults require")
"""What a job ends with that a board breaks off."""


class FakeKernel(CoreRequests):
    """The base of all fake kernels.

    `log` has the last `log_length` requests, `complaints` all misuse. If the real kernel accepts
    misuse silently, a fake one calls `complain`: the text goes to `complaints`, with
    TEFLON_DEBUG=ioctl to stderr, and with `strict` it is raised as SimulatorFault. If
    `shares_memory` is set before the first buffer is made, other processes can map buffers. If
    `real_time` is set, a job takes at least its modelled time. `before_job` is called before each
    job; if it returns True, the job breaks off half way (kernels raise `BROKEN_OFF` then).
    """

    interface: ClassVar[Uapi]

    def __init__(
        self,
        *,
        strict: bool = False,
        coherent: bool = True,
        memory_limit: int = 4 << 30,
        first_address: int = 0x1000_0000,
        end_address: int = 1 << 32,
        guard: int = PAGE,
        log_length: int = _LOG_LENGTH,
    ) -> None:
        super().__init__()
        self.strict, self.coherent = strict, coherent
        self.complaints: list[str] = Complaints()
        self.log: collections.deque[dict[str, Any]] = collections.deque(maxlen=log_length)
        self.lock = forks.rlock()
        self.shares_memory = False
        self.real_time = False
        self.before_job: Callable[[Callable[[], bool]], bool] | None = None
        self._range = (first_address, end_address, guard)
        self._free_bytes = memory_limit
        self._next_offset = _FIRST_OFFSET
        self._next_address: int | None = None
        self._sequence = 0
        self._offsets: dict[int, BufferObject] = {}
        found = self._answers()
        self._handlers = _by_number(
            (
                ioctl,
                answer if permits(ioctl, self.node) else functools.partial(_refuse, errno.EACCES),
            )
            for ioctl, answer in found.items()
        )
        self._primary_handlers = _by_number(
            (ioctl, functools.partial(self._permitted, flags(ioctl), answer))
            for ioctl, answer in found.items()
        )

    def _answers(self) -> dict[Ioctl, _Answer]:
        """Return what answers each request."""
        found: dict[Ioctl, _Answer] = {
            ioctl: functools.partial(_refuse, code) for ioctl, code in REFUSED.items()
        }
        for name in dir(type(self)):
            ioctl = getattr(getattr(type(self), name), "answers", None)
            if ioctl is not None:
                found[ioctl] = getattr(self, name)
        return found

    def _permitted(self, needed: int, answer: _Answer, file: FakeFile, argument: Struct) -> int:
        """Answer a request on a primary node if the file may make it."""
        if not self.may(needed, file):
            raise refuse(errno.EACCES)
        return answer(file, argument) or 0

    def open(self) -> FakeFile:
        """Open the node."""
        return FakeFile(AddressSpace(*self._range))

    def timeline(self, file: FakeFile) -> Timeline | None:
        """Return the modelled time of an open file; None if the simulator predicts no times."""
        return None

    def release(self, file: FakeFile) -> None:
        """Free everything that an open file still has, when its last reference is gone."""
        with self.lock:
            file.closed = True
            self.leave_primary(file)
            for handle in list(file.handles):
                self.drop_handle(file, handle)

    def abandon(self, file: FakeFile) -> None:
        """Release a file whose program has closed it or is gone; wait at most a second for that."""
        releasing = threading.Thread(target=self.release, args=(file,), daemon=True)
        releasing.start()
        releasing.join(_PATIENCE)

    def complain(self, text: str) -> None:
        """Report misuse that the real kernel accepts or ignores silently."""
        self.complaints.append(text)
        if enabled("ioctl"):
            log(f"{self.name} fake kernel: {text}")
        if self.strict:
            raise SimulatorFault(f"{self.name} kernel: {text}")

    def breaks_off(self, ended: Callable[[], bool] = lambda: False) -> bool:
        """Whether the next job is to break off half way; kernels ask before each job.

        It may block, at most until `ended()` says that the job is over.
        """
        return self.before_job is not None and self.before_job(ended)

    # requests

    def ioctl(self, file: FakeFile, request: int, argument: bytearray) -> int:
        """Answer a request. Raises OSError.

        As in drm_ioctl, group and number decide about the handler. The caller's struct may be
        shorter or longer than ours: bytes that it does not send are zero, and it gets as many
        bytes as it has room for, also with an error. Nothing is read or written that not both
        the caller's number and ours say.
        """
        fields = request_fields(request)
        handlers = self._handlers if file.master is None else self._primary_handlers
        found = handlers.get((fields.group, fields.number))
        if found is None:
            raise self._unknown(fields, request, argument)
        ioctl, handler = found
        size = fields.size
        if len(argument) < size:
            raise refuse(errno.EFAULT)
        given = bytes(argument[:size]) if fields.write and ioctl.takes else b""
        struct = ioctl.struct.unpack(given)
        code = 0
        try:
            return handler(file, struct) or 0
        except OSError as error:
            code = error.errno or errno.EIO
            raise
        finally:
            if fields.read and ioctl.answers:
                rest = given[ioctl.struct.size_bytes :]
                argument[:size] = (struct.pack() + rest)[:size].ljust(size, b"\0")
            self._note(ioctl, struct, code)

    def _unknown(self, fields: RequestFields, request: int, argument: bytearray) -> OSError:
        self.complaints.append(f"no handler for {self.decode(request, argument)}")
        if enabled("ioctl"):
            log(self.complaints[-1])
        return refuse(errno.EINVAL if fields.group == ord("d") else errno.ENOTTY)

    def find(self, request: int) -> Ioctl | None:
        """Return the declaration of a request, also of the DRM core's; None if there is none."""
        return self.interface.find(request) or CORE.find(request)

    def decode(self, request: int, argument: bytes | bytearray) -> str:
        """Return a request and the fields of its argument as text."""
        own = self.interface.find(request) is not None or CORE.find(request) is None
        return (self.interface if own else CORE).decode(request, argument)

    def _note(self, ioctl: Ioctl, after: Struct, code: int) -> None:
        if self.log.maxlen == 0:
            return
        about = self.entry(ioctl, after, code)  # may ask the caller, who may be stopped: no lock
        with self.lock:
            self.log.append({"seq": self._sequence, "ioctl": ioctl.name} | about)
            self._sequence += 1

    def entry(self, ioctl: Ioctl, after: Struct, code: int) -> dict[str, Any]:
        """Return the log's fields for a request, beside its name."""
        return after.values() | ({"errno": code} if code else {})

    # buffers

    def place_next(self, address: int) -> None:
        """Set the device address of the next buffer; replaying a recording needs this."""
        self._next_address = address

    def create(self, file: FakeFile, size: int) -> BufferObject:
        """Make a buffer with a handle and an address. Raises OSError: EINVAL, ENOMEM, ENOSPC."""
        if size == 0:
            raise refuse(errno.EINVAL)
        with self.lock:
            if pages(size) > self._free_bytes:
                raise refuse(errno.ENOMEM)
            return self._place(file, size, None)

    def _place(self, file: FakeFile, size: int, memory: MemoryFile | None) -> BufferObject:
        """Return a buffer with an address, over new memory if there is none."""
        at, self._next_address = self._next_address, None
        address = file.space.allocate(size, at)
        if memory is None and self.shares_memory:
            memory = MemoryFile(pages(size), self.device)
        bo = BufferObject(size, self._next_offset, self.coherent, memory)
        bo.address = address
        self._next_offset += bo.mapped_bytes
        self._free_bytes -= bo.mapped_bytes
        self._offsets[bo.offset] = bo
        bo.references = 0
        bo.handle = self.add_handle(file, bo)
        self.mapped(file, bo)
        return bo

    def add_handle(self, file: FakeFile, bo: BufferObject) -> int:
        handle = file.lowest_free_handle()
        file.handles[handle] = bo
        bo.files[file] = bo.files.get(file, 0) + 1
        bo.references += 1
        return handle

    def shared(self, file: FakeFile, bo: BufferObject) -> None:
        pass

    def import_memory(self, file: FakeFile, memory: MemoryFile, ours: bool) -> BufferObject:
        bo = self._place(file, memory.size, memory)
        bo.imported = not ours
        if bo.imported:
            self._free_bytes += bo.mapped_bytes  # it is counted where it was made
        return bo

    def drop_handle(self, file: FakeFile, handle: int) -> None:
        bo = file.handles.pop(handle)
        bo.files[file] -= 1
        if not any(bo.files.values()):
            self.forget_name(bo)
            if bo.file is not None:
                bo.file.writable = None  # the next export makes another dma_buf
        self.closing(file, bo)
        self.put(file, bo)

    def put(self, file: FakeFile, bo: BufferObject) -> None:
        """Drop one reference to a buffer; the last one unmaps it."""
        with self.lock:
            bo.references -= 1
            if bo.references:
                return
            for user in bo.files:
                self.unmapped(user, bo)
            next(iter(bo.files)).space.free(bo.address)
            del self._offsets[bo.offset]
            if not bo.imported:
                self._free_bytes += bo.mapped_bytes

    def mapped(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a buffer gets its address, so that the hardware can see it."""

    def unmapped(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a buffer loses its address."""

    def closing(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a handle is closed; jobs may still use the buffer."""

    def find_offset(self, file: FakeFile, offset: int, size: int) -> BufferObject:
        """Return the buffer that an mmap maps. Raises OSError.

        EINVAL: no buffer begins there, or it is smaller. EACCES: the file has no handle of it.
        """
        with self.lock:
            bo = self._offsets.get(offset)
            if bo is None or not 0 < size <= bo.mapped_bytes:
                raise refuse(errno.EINVAL)
            if not bo.files.get(file):
                raise refuse(errno.EACCES)
            return bo


def _refuse(code: int, file: FakeFile, argument: Struct) -> None:
    if code:
        raise refuse(code)


def _by_number(
    answers: Iterable[tuple[Ioctl, _Answer]],
) -> dict[tuple[int, int], tuple[Ioctl, _Answer]]:
    return {(ord(ioctl.group), ioctl.number): (ioctl, answer) for ioctl, answer in answers}


class FakeWinsys(Winsys):
    """An open file of a fake kernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.file = kernel.open()
        self._owner = os.getpid()

    def _check(self) -> None:
        check_process(self._owner, f"fake {self.kernel.name} node")
        if self.file.closed:
            raise refuse(errno.EBADF)

    def ioctl(self, request: int, argument: bytearray) -> int:
        self._check()
        while True:
            try:
                with interrupts.whole():  # waits look whether Ctrl-C came; all else is done
                    return self.kernel.ioctl(self.file, request, argument)
            except OSError as error:  # not BlockingIOError: that class includes EALREADY
                if error.errno not in (errno.EINTR, errno.EAGAIN):
                    raise

    def mmap(self, offset: int, size: int) -> memoryview:
        self._check()
        return memoryview(self.kernel.find_offset(self.file, offset, size).cpu)[:size]

    @property
    def timeline(self) -> Timeline | None:
        return self.kernel.timeline(self.file)

    def again(self) -> FakeWinsys:
        self._check()
        return FakeWinsys(self.kernel)

    def close(self) -> None:
        if not self.file.closed and os.getpid() == self._owner:
            with interrupts.whole():
                self.kernel.release(self.file)
