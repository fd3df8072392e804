"""Artefacts in the compile cache: a model whose bytes are known is neither read nor planned again.

An entry holds the artefact's JSON. Constants are places in the model's own bytes, programs are keys
of entries of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from teflon import debug, trace
from teflon.compile.artefact import Artefact
from teflon.compile.artefact_json import BROKEN, from_json, to_json
from teflon.compile.cache import Cache
from teflon.compile.partition import Partition
from teflon.compile.programs import cached_program, identity, program_key, sources
from teflon.errors import TeflonError
from teflon.ir.graph import Value
from teflon.ir.passes import skipped
from teflon.ir.types import Array, TensorType
from teflon.pipe import Data, Device, ModelFile, Program

_MOST_INLINE = 1 << 16
"""Bytes of folded constants that an entry may hold; models with more are planned each time."""

_SHOWN = ("ir", "passes", "partition", "stream", "tasks", "verbose")
"""Flags of TEFLON_DEBUG that show work which is not done where a plan is known."""


class _Missing(Exception):
    """A program's entry is gone, or its device refuses it."""


def artefact_key(file: ModelFile, device: Device, cache: Cache) -> bytes | None:
    """Return the key of what is compiled of a model for a device and the CPU.

    None where nothing may be taken from the cache: it is off, the device's programs must not be
    kept, or a flag of TEFLON_DEBUG shows work that a known plan would save.
    """
    made_by = identity(device) if cache.folder is not None else None
    if made_by is None or any(debug.enabled(flag) for flag in _SHOWN):
        return None
    digest = hashlib.sha256(file.content)
    reader = type(file).__module__
    for text in (
        "artefact", made_by, reader, sources(reader.partition(".")[0]), file.name,
        ",".join(sorted(skipped())),
    ):  # fmt: skip
        digest.update(b"\0" + text.encode())
    return digest.digest()


def recall(key: bytes, file: ModelFile, devices: Sequence[Device], cache: Cache) -> Artefact | None:
    """Return the artefact that an earlier run kept; None where a part of it is gone or unusable."""
    entry = cache.get(key)
    if entry is None:
        return None

    def program(text: str) -> Program:
        found = cached_program(devices[0], bytes.fromhex(text), cache)
        if found is None:
            raise _Missing
        return found

    try:
        with trace.span("artefact from cache"):
            return from_json(json.loads(bytes(entry)), devices, _Fetcher(file.content), program)
    except _Missing:
        return None
    except (*BROKEN, TeflonError) as error:
        cache.discard(key, f"cannot be read ({type(error).__name__})")
        return None


def keep(key: bytes, file: ModelFile, artefact: Artefact, cache: Cache) -> None:
    """Keep an artefact; its programs are in the cache already (`programs.compile_program`)."""
    made_by = identity(artefact.devices[0]) or ""

    def program(part: Partition, _: Program) -> str:
        return program_key(made_by, part.graph).hex()

    place = _Places(file.content)
    plain = to_json(artefact, place, program)
    if place.inlined <= _MOST_INLINE:
        cache.put(key, json.dumps(plain, separators=(",", ":")).encode())


class _Places:
    """Says where a constant lies in a model's bytes; those that passes made are written out."""

    def __init__(self, content: Data) -> None:
        whole = np.frombuffer(content, np.uint8)
        self.start = whole.__array_interface__["data"][0]
        self.end = self.start + whole.size
        self.inlined = 0

    def __call__(self, value: Value) -> object:
        data = value.data
        assert data is not None
        at = data.__array_interface__["data"][0]
        if data.flags.c_contiguous and self.start <= at and at + data.nbytes <= self.end:
            return at - self.start
        self.inlined += data.nbytes
        return data.tobytes().hex() if self.inlined <= _MOST_INLINE else ""


class _Fetcher:
    """Returns constants as read-only views of a model's bytes, or of what was written out."""

    def __init__(self, content: Data) -> None:
        self.content = content

    def __call__(self, reference: Any, kind: TensorType) -> Array:
        dtype = kind.dtype.numpy
        if isinstance(reference, str):
            return np.frombuffer(bytes.fromhex(reference), dtype, kind.size).reshape(kind.shape)
        return np.frombuffer(self.content, dtype, kind.size, reference).reshape(kind.shape)
