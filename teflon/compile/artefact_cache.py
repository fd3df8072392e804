"""Artefacts in the compile cache, so that a known model file is neither read nor planned again.

An entry holds the artefact's JSON. It refers to constants by their place in the model file, or by
their place in a second entry if the file does not have them as they are, and to programs by the
keys of their own entries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from teflon import debug, trace
from teflon.compile.artefact import Artefact
from teflon.compile.artefact_json import from_json, to_json
from teflon.compile.cache import Cache
from teflon.compile.chain import DEFAULT, Host
from teflon.compile.partition import Partition
from teflon.compile.programs import cached_program, identity, source_hash, stored_program
from teflon.ir.graph import Value
from teflon.ir.passes import skipped
from teflon.ir.types import Array, TensorType
from teflon.pipe import Data, Device, ModelFile, Program

_MOST_INLINE = 64
"""Bytes of a constant that the artefact's own entry may hold."""
_ALIGN = 64

_WORK_FLAGS = ("ir", "passes", "partition", "stream", "tasks", "verbose")
"""Flags of TEFLON_DEBUG that show work which an artefact from the cache saves."""


Shapes = Mapping[str, tuple[int, ...]]
"""New shapes of a model's inputs, by name."""


class _Missing(Exception):
    """The entry of a program is gone, or the device refuses it."""


def artefact_key(
    file: ModelFile,
    device: Device,
    cache: Cache,
    host: Host = DEFAULT,
    shapes: Shapes | None = None,
) -> bytes | None:
    """Return the key of a model's artefact for a device and the CPU; None if it must not be cached.

    That is so if the cache is off, if the device has no `signature`, or if a flag of TEFLON_DEBUG
    shows work that an artefact from the cache would save.
    """
    made_by = identity(device) if cache.folder is not None else None
    if made_by is None or any(debug.enabled(flag) for flag in _WORK_FLAGS):
        return None
    digest = hashlib.sha256(file.content)
    reader = type(file).__module__
    for text in (
        "artefact", made_by, reader, source_hash(reader.partition(".")[0]), file.name,
        ",".join(sorted(skipped())), repr(host), json.dumps(shapes or {}, sort_keys=True),
    ):  # fmt: skip
        digest.update(b"\0" + text.encode(errors="surrogateescape"))  # a file name is any bytes
    return digest.digest()


def recall(
    key: bytes, file: ModelFile, device: Device, cache: Cache, host: Host = DEFAULT
) -> Artefact | None:
    """Return the artefact that an earlier run stored; None if a part of it is gone or unusable."""
    entry = cache.get(key)
    if entry is None:
        return None

    def program(text: str, of: Device) -> Program:
        found = cached_program(of, bytes.fromhex(text), cache)
        if found is None:
            raise _Missing
        return found

    try:
        with trace.span("artefact from cache"):
            fetch = _Fetcher(file.content, lambda: cache.get(_constants_key(key)))
            plain = json.loads(bytes(entry))
            found = from_json(plain, device, host, fetch, program)
            return replace(found, forget=partial(_forget, key, plain, cache))
    except _Missing:
        return None
    except Exception as error:  # an entry is anything that another program may have written
        cache.discard(key, f"cannot be read ({type(error).__name__})")
        return None


def _forget(key: bytes, plain: Mapping[str, Any], cache: Cache) -> None:
    """Remove an artefact's entries: it could be read, but cannot be loaded."""
    cache.discard(key, "cannot be loaded")
    for program in plain["programs"]:
        if isinstance(program, str):
            cache.discard(bytes.fromhex(program), "cannot be loaded")
    cache.discard(_constants_key(key), "cannot be loaded")


def keep(key: bytes, file: ModelFile, artefact: Artefact, cache: Cache) -> None:
    """Store an artefact. `programs.compile_program` has stored programs that have a key."""

    def program(part: Partition, made: Program) -> str:
        return stored_program(artefact.devices[part.device], part.graph, made, cache).hex()

    place = _Places(file.content)
    plain = to_json(artefact, place, program)
    if place.apart and not cache.put(_constants_key(key), bytes(place.apart)):
        return
    cache.put(key, json.dumps(plain, separators=(",", ":")).encode())


def _constants_key(key: bytes) -> bytes:
    return hashlib.sha256(b"constants\0" + key).digest()


class _Places:
    """Returns the reference of a constant: its place in the model file.

    For a constant that was computed it is the content itself, or a list of its place in `apart`.
    """

    def __init__(self, content: Data) -> None:
        whole = np.frombuffer(content, np.uint8)
        self.start = whole.__array_interface__["data"][0]
        self.end = self.start + whole.size
        self.apart = bytearray()

    def __call__(self, value: Value) -> object:
        data = value.data
        assert data is not None
        at = data.__array_interface__["data"][0]
        if data.flags.c_contiguous and self.start <= at and at + data.nbytes <= self.end:
            return at - self.start
        if data.nbytes <= _MOST_INLINE:
            return data.tobytes().hex()
        self.apart += bytes(-len(self.apart) % _ALIGN)
        self.apart += data.tobytes()
        return [len(self.apart) - data.nbytes]


class _Fetcher:
    """Returns the constant of a reference: a read-only view of the model file, or of an entry."""

    def __init__(self, content: Data, apart: Callable[[], Data | None]) -> None:
        self.content = content
        self._find = apart
        self._apart: Data | None = None

    def __call__(self, reference: Any, kind: TensorType) -> Array:
        dtype = kind.dtype.numpy
        if isinstance(reference, str):
            return np.frombuffer(bytes.fromhex(reference), dtype, kind.size).reshape(kind.shape)
        if isinstance(reference, list):
            return np.frombuffer(self.apart(), dtype, kind.size, *reference).reshape(kind.shape)
        return np.frombuffer(self.content, dtype, kind.size, reference).reshape(kind.shape)

    def apart(self) -> Data:
        """Return the entry with the constants that the file does not have."""
        self._apart = self._find() if self._apart is None else self._apart
        if self._apart is None:
            raise _Missing
        return self._apart
