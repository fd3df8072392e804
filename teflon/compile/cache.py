"""The compile cache: a folder with one file for each entry, found by the entry's key.

Files are complete from the moment they exist, so several processes may share a folder. The cache
never raises an error: an entry that cannot be read is replaced, and if the folder cannot be written
nothing is stored; both are logged as warnings, once. `programs.py` and `artefact_cache.py` define
the entries.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import mmap
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from teflon import debug
from teflon.errors import OptionError, shown
from teflon.files import STALE_SECONDS, open_regular, remove
from teflon.pipe import Data

OFF = "off"
VARIABLE = "TEFLON_CACHE"
LIMIT = 512 << 20
"""Bytes that a folder may hold; if it holds more, the least recently used entries are removed."""
REMAINDER = 0.9
"""Share of the limit that remains after a removal, so that not every `put` removes entries."""

SUFFIX = ".entry"
MAGIC = b"TEFLONCA"
FORMAT = 1
_HEAD = struct.Struct("<8sII32sQ")
"""Magic, format, CRC-32 of the payload, key, length of the payload."""

_warnings: set[str] = set()


@dataclass(frozen=True)
class Entry:
    """A file of the cache's folder."""

    path: Path
    size: int
    used: float  # seconds since 1970


@dataclass(frozen=True)
class Cache:
    """A folder of entries; a cache without a folder stores nothing."""

    folder: Path | None
    limit: int = LIMIT

    def get(self, key: bytes, *, sealed: bool = False) -> Data | None:
        """Return the payload of a key as a memory map; None if there is no usable entry.

        `sealed`: do not compute the checksum, because the caller checks that of the payload itself.
        """
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            whole = _map(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NO_FILE:
                self.discard(key, error.strerror or "is no file")
            _warn_once(
                f"cache {self.folder}: cannot be read, {error.strerror}; models are compiled anew"
            )
            return None
        except ValueError:  # the file became empty after its size was read
            return None
        if not _is_whole(whole, key, sealed):
            self.discard(key, "is damaged or is not an entry of a cache")
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return whole[_HEAD.size :]

    def put(self, key: bytes, payload: bytes) -> bool:
        """Store a payload, and remove old entries if necessary; return False if it cannot."""
        if self.folder is None or len(payload) > self.limit:
            return False
        head = _HEAD.pack(MAGIC, FORMAT, zlib.crc32(payload), key, len(payload))
        try:
            self.folder.mkdir(0o700, parents=True, exist_ok=True)
            self._write(self._path(key), head, payload)
            self._evict()
        except OSError as error:
            _warn_once(
                f"cache {self.folder}: cannot be written, {error.strerror}; nothing is stored"
            )
            return False
        return True

    def discard(self, key: bytes, why: str) -> None:
        """Remove an entry that cannot be used, and warn once for each folder and reason."""
        path = self._path(key)
        _warn_once(f"cache {self.folder}: an entry {why}, it is replaced", path.name)
        remove(path)

    def entries(self) -> list[Entry]:
        """Return all entries, the least recently used first. Raises OSError."""
        return sorted(self._files(SUFFIX), key=lambda e: (e.used, e.path.name))

    def clear(self) -> int:
        """Remove all entries and return their number; other files stay. Raises OSError."""
        entries = self.entries()
        for entry in (*entries, *self._files(".tmp")):
            remove(entry.path)
        return len(entries)

    def _path(self, key: bytes) -> Path:
        assert self.folder is not None  # `get` and `put` return before this if the cache is off
        return self.folder / (key.hex() + SUFFIX)

    def _files(self, suffix: str) -> list[Entry]:
        found: list[Entry] = []
        if self.folder is None or not self.folder.is_dir():
            return found
        with os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith(suffix):
                    with contextlib.suppress(FileNotFoundError):  # another process removed it
                        stat = file.stat(follow_symlinks=False)
                        found.append(Entry(Path(file.path), stat.st_size, stat.st_mtime))
        return found

    def _write(self, path: Path, *parts: bytes) -> None:
        number, name = tempfile.mkstemp(".tmp", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                for part in parts:
                    file.write(part)
            with contextlib.suppress(FileNotFoundError):  # another process cleared the folder
                if path.is_dir():
                    remove(path)
                os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _evict(self) -> None:
        now = time.time()
        old = [e for e in self._files(".tmp") if now - e.used > STALE_SECONDS]
        entries = self.entries()
        total = sum(e.size for e in entries)
        if total > self.limit:
            for entry in entries[:-1]:  # the last one was written just now and stays
                if total <= self.limit * REMAINDER:
                    break
                old.append(entry)
                total -= entry.size
        for entry in old:
            remove(entry.path)


NONE = Cache(None)
"""The cache that stores nothing."""


def cache_for(setting: object = "") -> Cache:
    """Return the cache for a value of the option `cache`.

    `setting` is a folder's path or `off`; None and False mean `off` too. An empty text stands for
    the value of TEFLON_CACHE, and if that is empty for the user's cache folder. Raises OptionError
    for any other value, and for a path that is a file or not valid.
    """
    if setting is None or setting is False:
        return NONE
    try:
        given = os.fsdecode(setting)  # type: ignore[arg-type]
        os.fsencode(given)
    except Exception as error:  # no path; half of a surrogate pair; a class of the caller's
        raise OptionError(
            f"cache: is {shown(setting)}, must be a folder's path, or {OFF}"
        ) from error
    if isinstance(setting, bytes):
        raise OptionError(f"cache: is {shown(setting)}, must be a folder's path, or {OFF}")
    text = given or os.environ.get(VARIABLE, "").strip()
    if text.strip().lower() == OFF or debug.enabled("nocache") or debug.bypasses_cache():
        return NONE
    try:
        folder = Path(text).expanduser() if text else _default_folder()
        usable = "\0" not in text and (folder.is_dir() or not folder.exists())
    except PermissionError:
        return Cache(folder)  # `get` and `put` warn about it
    except (OSError, RuntimeError):  # the path is too long, or the user of `~` has no home
        usable = False
    if not usable:
        raise OptionError(f"cache: is {shown(text)}, must be a folder, or {OFF}")
    return Cache(folder)


def cache_and_options(options: Mapping[str, object]) -> tuple[Cache, dict[str, object]]:
    """Return the cache that the option `cache` names, and the other options, for the driver.

    Raises OptionError.
    """
    rest = dict(options)
    return cache_for(rest.pop("cache", "")), rest


@functools.cache
def _default_folder() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_path("teflon")) / "programs"


_NO_FILE = (errno.EINVAL, errno.ELOOP)
"""What `open_regular` says of a folder, a FIFO, a device or a link: no entry is one."""


def _map(path: Path) -> memoryview:
    """Map a file. An entry is replaced as a whole and never changed, so a map stays valid."""
    descriptor = open_regular(path, follow=False)
    try:
        if os.fstat(descriptor).st_size == 0:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def _is_whole(entry: memoryview, key: bytes, sealed: bool) -> bool:
    if len(entry) < _HEAD.size:
        return False
    magic, form, checksum, of, size = _HEAD.unpack_from(entry)
    if (magic, form, of, size) != (MAGIC, FORMAT, key, len(entry) - _HEAD.size):
        return False
    return sealed or zlib.crc32(entry[_HEAD.size :]) == checksum


def _warn_once(text: str, detail: str = "") -> None:
    """Log a warning, once in a process."""
    if text in _warnings:
        return
    _warnings.add(text)
    import logging

    logging.getLogger("teflon").warning("%s%s", text, f" ({detail})" if detail else "")
