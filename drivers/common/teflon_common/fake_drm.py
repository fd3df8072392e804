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
import os
import threading
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from teflon.debug import enabled, log
from teflon.errors import SimulatorFault
from teflon.pipe import Timeline, Winsys
from teflon_common.caller import copy_from_user as copy_from_user
from teflon_common.caller import copy_to_user
from teflon_common.caller import refuse as refuse
from teflon_common.drm import GEM_CLOSE, VERSION, GemClose, Version, check_process
from teflon_common.fake_buffers import PAGE as PAGE
from teflon_common.fake_buffers import AddressSpace as AddressSpace
from teflon_common.fake_buffers import BufferObject as BufferObject
from teflon_common.fake_buffers import pages as pages
from teflon_common.structs import Ioctl, Struct, Uapi, request_fields

_FIRST_OFFSET = 0x1_0000_0000
"""The first mmap offset. Ref: Linux, include/drm/drm_vma_manager.h (64-bit machines)."""

_LOG_LENGTH = 4096

Handler = TypeVar("Handler", bound=Callable[..., int | None])


BROKEN_OFF = SimulatorFault("the job stops half way, as the board's rules for faults require")
"""What a job ends with that a board breaks off."""


def answers(ioctl: Ioctl) -> Callable[[Handler], Handler]:
    """Mark a method as the answer to a request: `(self, file, argument) -> int | None`."""

    def mark(method: Handler) -> Handler:
        method.answers = ioctl  # type: ignore[attr-defined]
        return method

    return mark


class FakeFile:
    """One open file: its handles and its address space."""

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self.handles: dict[int, BufferObject] = {}
        self.closed = False

    def lookup(self, handle: int) -> BufferObject:
        """Return a buffer by handle. Raises OSError ENOENT."""
        if handle not in self.handles:
            raise refuse(errno.ENOENT)
        return self.handles[handle]

    def lowest_free_handle(self) -> int:
        """Return the handle for a new buffer: the kernel takes the lowest free one, from 1 on."""
        return next(i for i in range(1, len(self.handles) + 2) if i not in self.handles)


class FakeKernel:
    """The base of all fake kernels.

    `log` has the last `log_length` requests, `complaints` all misuse. If the real kernel accepts
    misuse silently, a fake one calls `complain`: the text goes to `complaints`, with
    TEFLON_DEBUG=ioctl to stderr, and with `strict` it is raised as SimulatorFault. If
    `shares_memory` is set before the first buffer is made, other processes can map buffers. If
    `real_time` is set, a job takes at least its modelled time. `before_job` is called before each
    job; if it returns True, the job breaks off half way (kernels raise `BROKEN_OFF` then).
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
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
        self.strict, self.coherent = strict, coherent
        self.complaints: list[str] = []
        self.log: collections.deque[dict[str, Any]] = collections.deque(maxlen=log_length)
        self.lock = threading.RLock()
        self.shares_memory = False
        self.real_time = False
        self.before_job: Callable[[], bool] | None = None
        self._range = (first_address, end_address, guard)
        self._free_bytes = memory_limit
        self._next_offset = _FIRST_OFFSET
        self._next_address: int | None = None
        self._sequence = 0
        self._handlers = {
            (ord(ioctl.group), ioctl.number): (ioctl, getattr(self, name))
            for name in dir(type(self))
            if (ioctl := getattr(getattr(type(self), name), "answers", None)) is not None
        }

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
            for handle in list(file.handles):
                self._drop_handle(file, handle)

    def complain(self, text: str) -> None:
        """Report misuse that the real kernel accepts or ignores silently."""
        self.complaints.append(text)
        if enabled("ioctl"):
            log(f"{self.name} fake kernel: {text}")
        if self.strict:
            raise SimulatorFault(f"{self.name} kernel: {text}")

    def breaks_off(self) -> bool:
        """Whether the next job is to break off half way; kernels ask before each job."""
        return self.before_job is not None and self.before_job()

    # requests

    def ioctl(self, file: FakeFile, request: int, argument: bytearray) -> int:
        """Answer a request. Raises OSError.

        As in drm_ioctl, group and number decide about the handler. The caller's struct may be
        shorter or longer than ours; missing bytes are zero.
        """
        fields = request_fields(request)
        ioctl, handler = self._handlers.get((fields.group, fields.number), (None, None))
        if ioctl is None or handler is None:
            self.complaints.append(f"no handler for {self.interface.decode(request, argument)}")
            if enabled("ioctl"):
                log(self.complaints[-1])
            raise refuse(errno.EINVAL if fields.group == ord("d") else errno.ENOTTY)
        given = bytes(argument[: fields.size]) if fields.write else b""
        struct = ioctl.struct.unpack(given)
        code = 0
        try:
            return handler(file, struct) or 0
        except OSError as error:
            code = error.errno or errno.EIO
            raise
        finally:
            if fields.read:
                answer = struct.pack()[: fields.size]
                argument[: len(answer)] = answer
            self._note(ioctl, struct, code)

    def _note(self, ioctl: Ioctl, after: Struct, code: int) -> None:
        if self.log.maxlen == 0:
            return
        with self.lock:
            entry = {"seq": self._sequence, "ioctl": ioctl.name}
            self._sequence += 1
            self.log.append(entry | self.entry(ioctl, after, code))

    def entry(self, ioctl: Ioctl, after: Struct, code: int) -> dict[str, Any]:
        """Return the log's fields for a request, beside its name."""
        return after.values() | ({"errno": code} if code else {})

    @answers(VERSION)
    def version(self, file: FakeFile, argument: Version) -> None:
        """Write the name of this kernel driver into the caller's buffers, as far as it fits."""
        argument.version_major = argument.version_minor = argument.version_patchlevel = 0
        argument.name_len = self._text(argument.name, argument.name_len, self.name)
        argument.date_len = self._text(argument.date, argument.date_len, "0")
        argument.desc_len = self._text(argument.desc, argument.desc_len, self.description)

    @staticmethod
    def _text(pointer: int, size: int, text: str) -> int:
        data = text.encode()
        if pointer and size:
            copy_to_user(pointer, data[:size])
        return len(data)

    @answers(GEM_CLOSE)
    def gem_close(self, file: FakeFile, argument: GemClose) -> None:
        """Drop a handle; EINVAL for an unknown one, as in drm_gem_handle_delete."""
        with self.lock:
            if argument.handle not in file.handles:
                raise refuse(errno.EINVAL)
            self._drop_handle(file, argument.handle)

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
            at, self._next_address = self._next_address, None
            address = file.space.allocate(size, at)
            bo = BufferObject(size, self._next_offset, self.coherent, self.shares_memory)
            bo.address, bo.handle = address, file.lowest_free_handle()
            self._next_offset += bo.mapped_bytes
            self._free_bytes -= bo.mapped_bytes
            file.handles[bo.handle] = bo
            self.mapped(file, bo)
            return bo

    def _drop_handle(self, file: FakeFile, handle: int) -> None:
        bo = file.handles.pop(handle)
        self.closing(file, bo)
        self.put(file, bo)

    def put(self, file: FakeFile, bo: BufferObject) -> None:
        """Drop one reference to a buffer; the last one unmaps it."""
        with self.lock:
            bo.references -= 1
            if bo.references:
                return
            self.unmapped(file, bo)
            file.space.free(bo.address)
            self._free_bytes += bo.mapped_bytes

    def mapped(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a buffer gets its address, so that the hardware can see it."""

    def unmapped(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a buffer loses its address."""

    def closing(self, file: FakeFile, bo: BufferObject) -> None:
        """Called when a handle is closed; jobs may still use the buffer."""

    def find_offset(self, file: FakeFile, offset: int) -> BufferObject:
        """Return the buffer that an mmap offset names. Raises OSError EINVAL."""
        with self.lock:
            for bo in file.handles.values():
                if bo.offset == offset:
                    return bo
        raise refuse(errno.EINVAL)


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
                return self.kernel.ioctl(self.file, request, argument)
            except OSError as error:  # not BlockingIOError: that class includes EALREADY
                if error.errno not in (errno.EINTR, errno.EAGAIN):
                    raise

    def mmap(self, offset: int, size: int) -> memoryview:
        self._check()
        bo = self.kernel.find_offset(self.file, offset)
        if not 0 < size <= bo.mapped_bytes:
            raise refuse(errno.EINVAL)
        return memoryview(bo.cpu)[:size]

    @property
    def timeline(self) -> Timeline | None:
        return self.kernel.timeline(self.file)

    def again(self) -> FakeWinsys:
        self._check()
        return FakeWinsys(self.kernel)

    def close(self) -> None:
        if not self.file.closed and os.getpid() == self._owner:
            self.kernel.release(self.file)
