"""From a file to a plan and its programs: compiled now, or taken from the compile cache whole.

A model whose bytes are known is neither read nor planned again: an entry of the cache holds its
graph and plan, with constants as places in the model file, and the keys of its programs.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from teflon import debug, trace
from teflon.compile.artefact import is_compiled, open_compiled
from teflon.compile.cache import Cache, identity, load_cached, program_key
from teflon.compile.loading import TEXT_SUFFIX, load_graph
from teflon.compile.partition import NOWHERE
from teflon.compile.plan_json import plan_from_json, plan_to_json
from teflon.errors import TeflonError
from teflon.frontend.tflite import reader as tflite
from teflon.ir.graph import Value
from teflon.ir.passes import skipped
from teflon.ir.types import Array, TensorType
from teflon.pipe import Device, Program
from teflon.run.model import Compiled, Preparer, compile_graph

_MOST_INLINE = 1 << 16
"""Data of folded constants that an entry may hold; models with more are planned each time."""

_SHOWN = ("ir", "passes", "partition", "stream", "tasks", "verbose")
"""Flags that show work which is not done where a plan is known."""


@dataclass(frozen=True)
class ModelFile:
    """A model that is compiled when the devices are known (a `runtime.Preparer`)."""

    path: str | os.PathLike[str]

    def __call__(self, devices: Sequence[Device], cache: Cache) -> Compiled:
        """Return plan and programs. Raises ModelError and what compiling raises."""
        made_by = identity(devices[0]) if cache.folder is not None else None
        if made_by is None or os.fspath(self.path).endswith(TEXT_SUFFIX) or _watched():
            return compile_graph(load_graph(self.path), devices, cache)
        data = tflite.map_file(self.path)
        key = _key(made_by, data, os.path.basename(os.fspath(self.path)))
        with trace.span("plan from cache"):
            known = _known(data, key, devices, cache)
        return known or self._anew(data, key, made_by, devices, cache)

    def _anew(
        self, data: mmap.mmap, key: bytes, made_by: str, devices: Sequence[Device], cache: Cache
    ) -> Compiled:
        with trace.span("read", file=self.path):
            graph = tflite.read(data, os.path.basename(os.fspath(self.path)))
        plan, programs = compile_graph(graph, devices, cache)
        keys = [program_key(made_by, p.graph).hex() if p.device == 0 else None
                for p in plan.partitions]  # fmt: skip
        place = _Places(data)
        plain = {"plan": plan_to_json(plan, place), "programs": keys}
        if place.inlined <= _MOST_INLINE:
            cache.put(key, json.dumps(plain, separators=(",", ":")).encode())
        return plan, programs


def source(path: str | os.PathLike[str]) -> Preparer:
    """Return what makes a model of a file, whatever its format. Raises ProgramError."""
    return open_compiled(path) if is_compiled(path) else ModelFile(path)


def _watched() -> bool:
    return any(debug.enabled(flag) for flag in _SHOWN)


def _key(made_by: str, data: mmap.mmap, name: str) -> bytes:
    digest = hashlib.sha256(data)
    for text in ("plan", made_by, name, ",".join(sorted(skipped()))):
        digest.update(b"\0" + text.encode())
    return digest.digest()


def _known(data: mmap.mmap, key: bytes, devices: Sequence[Device], cache: Cache) -> Compiled | None:
    """Return what an earlier load found, None where a part of it is gone or unusable."""
    entry = cache.get(key)
    if entry is None:
        return None
    try:
        plain = json.loads(bytes(entry))
        plan = plan_from_json(plain["plan"], _Fetcher(data))
        keys = [k and bytes.fromhex(k) for k in plain["programs"]]
        programs = []
        for part, its in zip(plan.partitions, keys, strict=True):
            program = _program(part.graph, part.device, its, devices, cache)
            if program is None and part.device != NOWHERE:
                return None
            programs.append(program)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, TeflonError) as error:
        cache.discard(key, f"cannot be read ({type(error).__name__})")
        return None
    return plan, tuple(programs)


def _program(
    graph: Any, device: int, key: bytes | None, devices: Sequence[Device], cache: Cache
) -> Program | None:
    if device == NOWHERE:
        return None
    return load_cached(devices[0], key, cache) if key else devices[device].compile(graph)


class _Places:
    """Says where a constant lies in a mapped file; those that passes made are written out."""

    def __init__(self, data: mmap.mmap) -> None:
        whole = np.frombuffer(data, np.uint8)
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
    """Returns constants as read-only views of a mapped file, or of what was written out."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data

    def __call__(self, reference: Any, kind: TensorType) -> Array:
        dtype = kind.dtype.numpy
        if isinstance(reference, str):
            return np.frombuffer(bytes.fromhex(reference), dtype, kind.size).reshape(kind.shape)
        return np.frombuffer(self.data, dtype, kind.size, reference).reshape(kind.shape)
