"""DRM nodes: the winsys for silicon, the generic requests, and errors with the cure."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from teflon.debug import enabled, log
from teflon.errors import DeviceError, DeviceTimeout
from teflon.forks import check_process
from teflon.pipe import Winsys
from teflon_common.structs import Ioctl, Struct, Uapi, address, s32, u32, u64

# Ref: Linux, include/uapi/drm/drm.h (numbers and structs)


class Version(Struct, size=64):
    """drm_version: the kernel driver of a node; it writes texts into buffers of the caller."""

    version_major: int = s32()
    version_minor: int = s32()
    version_patchlevel: int = s32()
    name_len: int = u64()
    name: int = address()
    date_len: int = u64()
    date: int = address()
    desc_len: int = u64()
    desc: int = address()


class GemClose(Struct, size=8):
    """drm_gem_close: drop a handle."""

    handle: int = u32()
    pad: int = u32()


VERSION = Ioctl("VERSION", "wr", 0x00, Version)
GEM_CLOSE = Ioctl("GEM_CLOSE", "w", 0x09, GemClose)
GENERIC = Uapi("drm", (VERSION, GEM_CLOSE))

CURES = {
    errno.ENOMEM: "the machine is out of memory: close other models or programs",
    errno.ENOSPC: "the 4 GiB address space of this node is full: close other models",
    errno.ENODEV: "the device is gone: was its kernel module unloaded?",
    errno.ETIMEDOUT: "is another program using the NPU? the kernel log tells whether it hangs",
    errno.EBUSY: "is another program using the NPU? the kernel log tells whether it hangs",
}
"""errno -> the cure, for all drivers; a driver adds its own."""
_DEFAULT_CURE = "the kernel log may tell why"

S = TypeVar("S", bound=Struct)

_RESTART = frozenset({errno.EINTR, errno.EAGAIN})
_TIMEOUTS = frozenset({errno.ETIMEDOUT, errno.EBUSY, errno.ETIME})


def decode(request: int, argument: bytes | bytearray, uapi: Uapi = GENERIC) -> str:
    """Return a request and its argument as text."""
    return uapi.decode(request, argument)


class DrmWinsys(Winsys):
    """A device node of this machine."""

    def __init__(self, path: str) -> None:
        """Open the node. Raises OSError."""
        self.path = path
        self._owner = os.getpid()
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def _check(self) -> None:
        check_process(self._owner, self.path)
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    def ioctl(self, request: int, argument: bytearray) -> int:
        if self._fd < 0 or os.getpid() != self._owner:
            self._check()
        while True:
            try:
                return int(fcntl.ioctl(self._fd, request, argument, True))
            except OSError as error:
                if error.errno not in _RESTART:
                    raise

    def mmap(self, offset: int, size: int) -> memoryview:
        self._check()
        return _map(self._fd, offset, size)

    def again(self) -> DrmWinsys:
        self._check()
        return DrmWinsys(self.path)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                         ctypes.c_int, ctypes.c_int64)  # fmt: skip
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


def _map(fd: int, offset: int, size: int) -> memoryview:
    """Map a part of a file; the mapping ends with its last view. Raises OSError.

    mmap.mmap keeps a file descriptor open for each mapping. The node would then stay open after
    `close`, and a process has few descriptors (often 1024).
    """
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = _libc.mmap(None, size, protection, mmap.MAP_SHARED, fd, offset)
    if address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    memory = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, size).atexit = False
    return memoryview(memory).cast("B")


def call(
    winsys: Winsys,
    uapi: Uapi,
    ioctl: Ioctl,
    argument: S,
    cures: Mapping[int, str] | None = None,
) -> S:
    """Do a request and return the kernel's answer, or the argument if the kernel only reads it.

    Raises DeviceTimeout or DeviceError with the decoded request, the errno's name and the cure.
    """
    request = Request(winsys, uapi, ioctl, argument, cures)
    request.send()
    return type(argument).unpack(request.data) if ioctl.answers else argument


class Request:
    """A request that is sent several times: its argument is packed once, some fields change.

    Only one thread may send it at a time.
    """

    def __init__(
        self,
        winsys: Winsys,
        uapi: Uapi,
        ioctl: Ioctl,
        argument: Struct,
        cures: Mapping[int, str] | None = None,
        changing: Sequence[str] = (),
    ) -> None:
        """changing: the fields that get a new value from each `send`. Raises FieldOverflow."""
        self._winsys, self._uapi, self._number = winsys, uapi, ioctl.request
        self._cures = cures or CURES
        self.data = bytearray(argument.pack())
        self._changing = [argument.layout_of(name) for name in changing]

    def send(self, *values: int) -> None:
        """Do the request. Raises DeviceTimeout or DeviceError, as `call` does."""
        for (code, offset), value in zip(self._changing, values, strict=True):
            struct.pack_into(code, self.data, offset, value)
        try:
            self._winsys.ioctl(self._number, self.data)
        except OSError as error:
            text = self._uapi.decode(self._number, self.data)
            if enabled("ioctl"):
                log(f"{text} = {_name(error)}")
            raise _device_error(text, error, self._cures) from error
        if enabled("ioctl"):
            log(f"{self._uapi.decode(self._number, self.data)} = 0")


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, f"errno {error.errno}")


def _device_error(request: str, error: OSError, cures: Mapping[int, str]) -> DeviceError:
    text = _error_text(request, error, cures)
    return DeviceTimeout(text) if error.errno in _TIMEOUTS else DeviceError(text)


def _error_text(what: str, error: OSError, cures: Mapping[int, str]) -> str:
    cure = cures.get(error.errno or 0, _DEFAULT_CURE)
    return f"{what}: {_name(error)}, {error.strerror} ({cure})"


def map_buffer(
    winsys: Winsys, what: str, offset: int, size: int, cures: Mapping[int, str]
) -> memoryview:
    """Map a buffer, which messages call `what`. Raises DeviceError as `call` does."""
    try:
        return winsys.mmap(offset, size)
    except OSError as error:
        raise DeviceError(_error_text(what, error, cures)) from error


@dataclass(frozen=True)
class KernelDriver:
    """The answer of VERSION: name, description and version of a kernel driver."""

    name: str
    description: str
    version: tuple[int, int, int]


def version(winsys: Winsys) -> KernelDriver:
    """Return the kernel driver of a node. Raises OSError if it is not a DRM node."""
    name, text = (ctypes.create_string_buffer(64) for _ in range(2))
    question = Version(
        name_len=63, name=ctypes.addressof(name), desc_len=63, desc=ctypes.addressof(text)
    )
    data = bytearray(question.pack())
    winsys.ioctl(VERSION.request, data)
    answer = Version.unpack(data)
    numbers = (answer.version_major, answer.version_minor, answer.version_patchlevel)
    return KernelDriver(name.value.decode(errors="replace"), text.value.decode(errors="replace"),
                        numbers)  # fmt: skip
