"""Files from outside: opened without waiting, read or mapped as the model's limits say."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import tempfile
import time
import zlib
from contextlib import suppress

from teflon import limits

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

STALE_SECONDS = 3600.0
"""Age from which an unfinished file is taken to belong to a process that died."""

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFLNK: "a link",
}  # fmt: skip


def open_regular(path: Path, *, follow: bool = True) -> int:
    """Return a descriptor of a regular file, for reading.

    Never blocks, and opens no device. Raises OSError, whose `strerror` says what is there instead:
    `is a FIFO`. `follow`: a symbolic link stands for its target.
    """
    _refuse(os.stat(path, follow_symlinks=follow), path)
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    descriptor = os.open(path, flags | (0 if follow else os.O_NOFOLLOW))
    try:
        _refuse(os.fstat(descriptor), path)  # it may have been replaced meanwhile
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "no file")
        raise OSError(errno.EINVAL, f"is {kind}", path)


def contents(path: Path) -> memoryview:
    """Return a file's bytes: a map of it, or a copy where the limits forbid maps.

    Raises OSError, and ModelError for a file beyond the limits.
    """
    descriptor = open_regular(path)
    try:
        size = os.fstat(descriptor).st_size
        limits.check(os.fsdecode(path), "bytes", size, "file_bytes")
        if limits.current().mapped and size:
            return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
        with open(descriptor, "rb", closefd=False) as file:
            return memoryview(file.read(size))  # what is added meanwhile is left
    finally:
        os.close(descriptor)


def head(path: Path, size: int) -> bytes:
    """Return the first bytes of a file. Raises OSError."""
    with open(open_regular(path), "rb") as file:
        return file.read(size)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file as a whole: after an error the old one is unchanged, and nothing else is left.

    What killed writers left beside it an hour ago or earlier is removed. Raises OSError.
    """
    target = os.fsencode(path)
    folder, name = os.path.split(target)
    prefix = b".teflon-%08x-" % zlib.crc32(name)
    number, part = tempfile.mkstemp(b".part", prefix, folder or b".")
    try:
        with open(number, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(part, 0o666 & ~umask)
        os.replace(part, target)
    except BaseException:
        remove(part)
        raise
    _sweep(folder or b".", prefix)


def _sweep(folder: bytes, prefix: bytes) -> None:
    """Remove the unfinished files of one target that no writer can still be at."""
    with suppress(OSError), os.scandir(folder) as files:
        for file in files:
            if file.name.startswith(prefix) and file.name.endswith(b".part"):
                with suppress(OSError):
                    if time.time() - file.stat(follow_symlinks=False).st_mtime > STALE_SECONDS:
                        remove(file.path)


def remove(path: Path) -> None:
    """Remove whatever is at a path, a folder with its content; nothing there is no error."""
    with suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
