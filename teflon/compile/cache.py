"""The compile cache: a folder of entries, each found by its key.

One file holds one entry. It appears whole or not at all, so any number of processes may share a
folder. A cache never fails: it replaces an entry that it cannot read, and keeps nothing where it
cannot write; it warns once of each. `programs.py` and `plan_cache.py` say what the entries are.
"""

from __future__ import annotations

import contextlib
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
from typing import BinaryIO

from teflon import debug
from teflon.errors import OptionError
from teflon.pipe import Data

OFF = "off"
VARIABLE = "TEFLON_CACHE"
LIMIT = 512 << 20
"""Data that a folder may hold; beyond it the least recently used entries go."""
KEPT = 0.9
"""Share of the limit that is left after entries went, so that not every store evicts."""
ABANDONED = 3600.0
"""Seconds after which a temporary file belongs to a process that died."""

SUFFIX = ".entry"
MAGIC = b"TEFLONCA"
FORMAT = 1
_HEAD = struct.Struct(
    "<8sII32sQ"
)  # magic, format, CRC-32 of the payload, key, length of the payload

_told: set[str] = set()


@dataclass(frozen=True)
class Entry:
    """One file of a folder."""

    path: Path
    size: int
    used: float  # seconds since 1970


@dataclass(frozen=True)
class Cache:
    """A folder of entries; None is a cache that keeps nothing."""

    folder: Path | None
    limit: int = LIMIT

    def get(self, key: bytes, *, sealed: bool = False) -> Data | None:
        """Return what was stored under a key, mapped; None where nothing usable was.

        `sealed`: the payload has a checksum of its own, which the caller looks at.
        """
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            with open(path, "rb") as file:
                whole = memoryview(_mapped(file))
        except FileNotFoundError:
            return None
        except OSError as error:
            _tell(
                f"cache {self.folder}: cannot be read, {error.strerror}; models are compiled anew"
            )
            return None
        except ValueError:  # it was emptied between its size and its map
            return None
        if not _is_whole(whole, key, sealed):
            self.discard(key, "is damaged or no entry of a cache")
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return whole[_HEAD.size :]

    def put(self, key: bytes, payload: bytes) -> bool:
        """Store under a key, and let old entries go; return whether it was possible."""
        if self.folder is None or len(payload) > self.limit:
            return False
        head = _HEAD.pack(MAGIC, FORMAT, zlib.crc32(payload), key, len(payload))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self._path(key), head, payload)
            self._evict()
        except OSError as error:
            _tell(f"cache {self.folder}: cannot be written, {error.strerror}; nothing is kept")
            return False
        return True

    def discard(self, key: bytes, why: str) -> None:
        """Take away an entry that cannot be used, and say so once for each folder."""
        path = self._path(key)
        _tell(f"cache {self.folder}: an entry {why}, it is replaced", path.name)
        with contextlib.suppress(OSError):
            path.unlink()

    def entries(self) -> list[Entry]:
        """Return all entries, the least recently used first. Raises OSError."""
        return sorted(self._files(SUFFIX), key=lambda e: (e.used, e.path.name))

    def clear(self) -> int:
        """Remove all entries, and return how many. Raises OSError; other files stay."""
        entries = self.entries()
        for entry in (*entries, *self._files(".tmp")):
            entry.path.unlink(missing_ok=True)
        return len(entries)

    def _path(self, key: bytes) -> Path:
        assert self.folder is not None  # `get` and `put` return before this where it is off
        return self.folder / (key.hex() + SUFFIX)

    def _files(self, suffix: str) -> list[Entry]:
        found: list[Entry] = []
        if self.folder is None or not self.folder.is_dir():
            return found
        with os.scandir(self.folder) as files:
            for file in files:
                if file.name.endswith(suffix):
                    with contextlib.suppress(FileNotFoundError):  # another process was faster
                        stat = file.stat()
                        found.append(Entry(Path(file.path), stat.st_size, stat.st_mtime))
        return found

    def _write(self, path: Path, *parts: bytes) -> None:
        number, name = tempfile.mkstemp(".tmp", dir=path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                for part in parts:
                    file.write(part)
            with contextlib.suppress(FileNotFoundError):  # the folder was cleared meanwhile
                os.replace(name, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    def _evict(self) -> None:
        now = time.time()
        old = [e for e in self._files(".tmp") if now - e.used > ABANDONED]
        entries = self.entries()
        total = sum(e.size for e in entries)
        if total > self.limit:
            for entry in entries[:-1]:  # the one that was just written stays
                if total <= self.limit * KEPT:
                    break
                old.append(entry)
                total -= entry.size
        for entry in old:
            with contextlib.suppress(FileNotFoundError):
                entry.path.unlink()


NONE = Cache(None)
"""The cache that keeps nothing."""


def configured(setting: object = "") -> Cache:
    """Return the cache that the option `cache` names.

    setting: a folder's path, or `off`; None and False are `off` too. An empty text stands for
    TEFLON_CACHE, and where that is empty for the user's own cache folder. Raises OptionError for
    anything else, and for a path that is a file or no path.
    """
    if setting is None or setting is False:
        return NONE
    if not isinstance(setting, str | os.PathLike) or isinstance(os.fspath(setting), bytes):
        raise OptionError(f"cache: is {_short(setting)}, must be a folder's path, or {OFF}")
    text = os.fspath(setting) or os.environ.get(VARIABLE, "").strip()
    if text.lower() == OFF or debug.enabled("nocache") or debug.compiles_anew():
        return NONE
    try:
        folder = Path(text).expanduser() if text else _default()
        usable = "\0" not in text and (folder.is_dir() or not folder.exists())
    except PermissionError:
        return Cache(folder)  # says so when it is used
    except (OSError, RuntimeError):  # too long, or `~` of a user who has no home
        usable = False
    if not usable:
        raise OptionError(f"cache: is {_short(text)}, must be a folder, or {OFF}")
    return Cache(folder)


def taken_from(options: Mapping[str, object]) -> tuple[Cache, dict[str, object]]:
    """Return the cache that options name, and the options that are left for the driver.

    Raises OptionError.
    """
    rest = dict(options)
    return configured(rest.pop("cache", "")), rest


def _short(setting: object) -> str:
    text = repr(setting)
    return text if len(text) < 200 else f"{text[:200]}..."


@functools.cache
def _default() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_path("teflon")) / "programs"


def _mapped(file: BinaryIO) -> mmap.mmap | bytes:
    """Return a file's content: entries are replaced, never changed, so that a map stays true."""
    if os.fstat(file.fileno()).st_size == 0:
        return b""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _is_whole(entry: memoryview, key: bytes, sealed: bool) -> bool:
    if len(entry) < _HEAD.size:
        return False
    magic, form, checksum, of, size = _HEAD.unpack_from(entry)
    if (magic, form, of, size) != (MAGIC, FORMAT, key, len(entry) - _HEAD.size):
        return False
    return sealed or zlib.crc32(entry[_HEAD.size :]) == checksum


def _tell(text: str, detail: str = "") -> None:
    """Warn once in a process."""
    if text in _told:
        return
    _told.add(text)
    import logging

    logging.getLogger("teflon").warning("%s%s", text, f" ({detail})" if detail else "")
