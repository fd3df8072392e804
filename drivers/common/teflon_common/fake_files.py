"""The files of fake kernels that are no nodes: dma_bufs and sync files, and their ioctls.

A dma_buf is the memory file of a buffer, so a program can map, seek and pass it on without the
board. The board keeps nothing for it: a memory file outlives its buffer as long as a program has it
open, and is known by its name. Sync files: see `fake_fences`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from teflon_common.caller import copy_from_user, copy_to_user, refuse, taken_descriptor
from teflon_common.fake_fences import Fence, Reservation, merged, stub, wait_all
from teflon_common.fake_fences import SyncFile as SyncFile
from teflon_common.fake_fences import find_sync_file as find_sync_file

# Ref: Linux, include/uapi/linux/sync_file.h, include/uapi/linux/dma-buf.h (numbers and structs)
# Ref: Linux, drivers/dma-buf/sync_file.c (sync_file_ioctl), drivers/dma-buf/dma-buf.c
# (dma_buf_ioctl): the order of the checks, and that both compare whole request numbers

MEMORY_NAME = "teflon-bo"
"""The name of the memory files of buffers."""

SYNC_IOC_MERGE, SYNC_IOC_FILE_INFO, SYNC_IOC_SET_DEADLINE = 0xC0303E03, 0xC0383E04, 0x40103E05
DMA_BUF_IOCTL_SYNC = 0x40086200
DMA_BUF_SET_NAME_A, DMA_BUF_SET_NAME_B = 0x40046201, 0x40086201
DMA_BUF_IOCTL_EXPORT_SYNC_FILE, DMA_BUF_IOCTL_IMPORT_SYNC_FILE = 0xC0086202, 0x40086203

SYNC_READ, SYNC_WRITE, SYNC_END = 1, 2, 4
_RW = SYNC_READ | SYNC_WRITE

_MERGE = struct.Struct("<32siiII")  # name, fd2, fence, flags, pad
_INFO = struct.Struct("<32siIIIQ")  # name, status, flags, num_fences, pad, sync_fence_info
_FENCE = struct.Struct("<32s32siIQ")  # obj_name, driver_name, status, flags, timestamp_ns
_DEADLINE = struct.Struct("<QQ")  # deadline_ns, pad
_SYNC = struct.Struct("<Q")  # flags
_PASS = struct.Struct("<Ii")  # flags, fd
_POINTER = struct.Struct("<Q")  # of the name: it is the request's argument itself
_TEXT = 31
"""Characters that a text of 32 bytes holds."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""Nobody may change the size of a memory file: that would end this process by SIGBUS."""


class MemoryFile:
    """The memory of a buffer, with a file descriptor; freed after the last close and unmap.

    `buffer()` returns the buffer that was exported, None if it is gone. `writable` says whether
    programs may write the dma_buf, None before the first export. `reservation` holds the fences of
    all who use the memory.
    """

    def __init__(self, size: int, device: str = "", of: int | None = None) -> None:
        """Make the memory of a device's buffer; or take that of a dma_buf, the descriptor `of`."""
        if of is None:
            name = f"{MEMORY_NAME} {device}"
            number = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.truncate(number, size)
            fcntl.fcntl(number, fcntl.F_ADD_SEALS, _SEALS)
        else:
            number = os.open(f"/proc/self/fd/{of}", os.O_RDWR | os.O_CLOEXEC)
        self.number = number
        self.writable: bool | None = None
        self.reservation = Reservation()
        self.buffer: Callable[[], Any] = lambda: None
        weakref.finalize(self, os.close, number)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.number).st_size

    def opened(self, writable: bool) -> int:
        """Return a new open file of this memory; who asks must close it."""
        mode = os.O_RDWR if writable else os.O_RDONLY
        return os.open(f"/proc/self/fd/{self.number}", mode | os.O_CLOEXEC)


_by_inode: weakref.WeakValueDictionary[tuple[int, int], MemoryFile] = weakref.WeakValueDictionary()


def note_exported(file: MemoryFile, buffer: object) -> None:
    """Note that a buffer has become a dma_buf, so that its file leads to it."""
    file.buffer = weakref.ref(buffer)
    _by_inode[_inode(file.number)] = file


def find_memory(descriptor: int) -> MemoryFile | None:
    """Return the memory of a dma_buf; None if its buffers are gone, or if it is no dma_buf."""
    return _by_inode.get(_inode(descriptor))


def exporter(descriptor: int) -> str | None:
    """Return the device whose buffer a dma_buf is; None if the descriptor is no dma_buf."""
    try:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return None
    prefix = f"/memfd:{MEMORY_NAME} "
    return target[len(prefix) :].removesuffix(" (deleted)") if target.startswith(prefix) else None


def is_dma_buf(descriptor: int) -> bool:
    """Whether a descriptor of this process is the memory of a buffer."""
    return exporter(descriptor) is not None


def _inode(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def file_ioctl(descriptor: int, request: int, argument: bytearray) -> int:
    """Answer a request to a file that is no node; `argument` gets the answer.

    Raises OSError: ENOTTY if the file is none of ours, or has no such request.
    """
    if (file := find_sync_file(descriptor)) is not None:
        act, layout = _SYNC_FILE.get(request, (None, None))
        if act is None or layout is None:
            raise refuse(errno.ENOTTY)
        act(file, _fields(layout, argument), argument)
        return 0
    if request in _DMA_BUF and is_dma_buf(descriptor):
        answer, size = _DMA_BUF[request]
        memory = find_memory(descriptor)
        reservation = Reservation() if memory is None else memory.reservation
        answer(reservation, _fields(size, argument), argument)
        return 0
    raise refuse(errno.ENOTTY)


def _fields(layout: struct.Struct, argument: bytearray) -> Sequence[Any]:
    if len(argument) < layout.size:
        raise refuse(errno.EFAULT)
    return layout.unpack_from(argument)


def _text(raw: bytes) -> str:
    return raw[:_TEXT].split(b"\0")[0].decode(errors="replace")


def _bytes(text: str) -> bytes:
    return text.encode(errors="replace")[:_TEXT]


# requests of sync files


def _merge(file: SyncFile, fields: Sequence[Any], argument: bytearray) -> None:
    name, number, _, flags, pad = fields
    if flags or pad:
        raise refuse(errno.EINVAL)
    other = _caller_sync_file(number)
    if other is None:
        raise refuse(errno.ENOENT)
    new = SyncFile(merged([*file.fences, *other.fences]), _text(name))
    _MERGE.pack_into(argument, 0, name[:_TEXT], number, new.give(), 0, 0)


def _caller_sync_file(number: int) -> SyncFile | None:
    """Return a sync file of the caller; None for any other number."""
    try:
        with taken_descriptor(number) as descriptor:
            return find_sync_file(descriptor)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None


def _info(file: SyncFile, fields: Sequence[Any], argument: bytearray) -> None:
    _, _, flags, room, pad, pointer = fields
    if flags or pad:
        raise refuse(errno.EINVAL)
    status = file.status
    if room:
        if room < len(file.fences):
            raise refuse(errno.EINVAL)
        status = 1
        told = []
        for fence in file.fences:
            one = fence.status
            status = one if status > 0 else status
            told.append(_fence_info(fence, one))
        copy_to_user(pointer, b"".join(told))
    _INFO.pack_into(argument, 0, _bytes(file.name), status, 0, len(file.fences), 0, pointer)


def _fence_info(fence: Fence, status: int) -> bytes:
    return _FENCE.pack(
        _bytes(fence.timeline), _bytes(fence.driver), status, 0, fence.timestamp_ns if status else 0
    )


def _deadline(file: SyncFile, fields: Sequence[Any], argument: bytearray) -> None:
    """Check a deadline: no driver here makes use of it, nor do those of Linux."""
    if fields[1]:
        raise refuse(errno.EINVAL)


# requests of dma_bufs


def _sync(reservation: Reservation, fields: Sequence[Any], argument: bytearray) -> None:
    """Wait for the fences at the start of an access; GEM buffers have no other bookkeeping."""
    (flags,) = fields
    if flags & ~(_RW | SYNC_END) or not flags & _RW:
        raise refuse(errno.EINVAL)
    if not flags & SYNC_END:
        wait_all(reservation.fences(bool(flags & SYNC_WRITE)))


def _set_name(reservation: Reservation, fields: Sequence[Any], argument: bytearray) -> None:
    """Check a name of at most 31 characters: only debugfs and fdinfo of the real kernel show it."""
    (pointer,) = fields
    for place in range(_TEXT + 1):
        if copy_from_user(pointer + place, 1) == b"\0":
            return
    raise refuse(errno.EINVAL)


def _rw(flags: int) -> bool:
    """Return whether flags speak of writing. Raises OSError EINVAL."""
    if flags & ~_RW or not flags & _RW:
        raise refuse(errno.EINVAL)
    return bool(flags & SYNC_WRITE)


def _export(reservation: Reservation, fields: Sequence[Any], argument: bytearray) -> None:
    fences = reservation.fences(_rw(fields[0]))
    _PASS.pack_into(argument, 0, fields[0], SyncFile(fences or [stub()]).give())


def _import(reservation: Reservation, fields: Sequence[Any], argument: bytearray) -> None:
    flags, number = fields
    writes = _rw(flags)
    file = _caller_sync_file(number)
    if file is None:
        raise refuse(errno.EINVAL)
    for fence in file.fences:
        reservation.add(fence, writes)


_Answer = Callable[[SyncFile, Sequence[Any], bytearray], None]
_BufferAnswer = Callable[[Reservation, Sequence[Any], bytearray], None]

_SYNC_FILE: dict[int, tuple[_Answer, struct.Struct]] = {
    SYNC_IOC_MERGE: (_merge, _MERGE),
    SYNC_IOC_FILE_INFO: (_info, _INFO),
    SYNC_IOC_SET_DEADLINE: (_deadline, _DEADLINE),
}
_DMA_BUF: dict[int, tuple[_BufferAnswer, struct.Struct]] = {
    DMA_BUF_IOCTL_SYNC: (_sync, _SYNC),
    DMA_BUF_SET_NAME_A: (_set_name, _POINTER),
    DMA_BUF_SET_NAME_B: (_set_name, _POINTER),
    DMA_BUF_IOCTL_EXPORT_SYNC_FILE: (_export, _PASS),
    DMA_BUF_IOCTL_IMPORT_SYNC_FILE: (_import, _PASS),
}
