"""Compiling through the cache: programs are found there if nothing that they depend on changed.

A program's key depends on everything that decides about the program: the subgraph's content, the
chip, the driver's signature, our version, and the state of every source file of the compilers.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator

from teflon.compile.cache import Cache, cache_for
from teflon.ir import serial
from teflon.ir.graph import Graph
from teflon.ir.ops import Opaque
from teflon.pipe import Device, Program

_NO_COMPILERS = ("__pycache__", "simulator", "cli", "data")
"""Folders whose files no program depends on."""


def compile_program(device: Device, graph: Graph, cache: Cache | None = None) -> Program:
    """Return a device's program for a subgraph, from the cache if it is there.

    None as cache stands for the user's default one. Raises what `Device.compile` raises.
    """
    store = cache_for() if cache is None else cache
    made_by = identity(device) if store.folder is not None else None
    if made_by is None:
        return device.compile(graph)
    key = program_key(made_by, graph)
    found = cached_program(device, key, store)
    if found is not None and not other_ends(found, graph):
        return found
    return _compile_and_store(device, graph, key, store)


def other_ends(program: Program, graph: Graph) -> str:
    """Return which ends of a program are not those of its graph, `inputs` or `outputs`; "" if all
    are.
    """
    for what in ("inputs", "outputs"):
        theirs = [(t.dtype, t.shape) for t in getattr(program, what)]
        if theirs != [(v.type.dtype, v.shape) for v in getattr(graph, what)]:
            return what
    return ""


def cached_program(device: Device, key: bytes, store: Cache) -> Program | None:
    """Return the program with a key; None if it is missing or the device refuses it."""
    data = store.get(key, sealed=True)  # Device.load checks it
    if data is None:
        return None
    try:
        return device.load(data)
    except Exception:  # ProgramError; a driver of others may raise anything
        store.discard(key, "was refused by the driver")
        return None


def _compile_and_store(device: Device, graph: Graph, key: bytes, store: Cache) -> Program:
    program = device.compile(graph)
    store.put(key, program.to_bytes())
    return program


def stored_program(device: Device, graph: Graph, program: Program, store: Cache) -> bytes:
    """Return the key of a subgraph's program in a cache; store it if `compile_program` did not.

    A program of a device without `signature` is stored under its content.
    """
    made_by = identity(device)
    if made_by is not None:
        return program_key(made_by, graph)
    data = program.to_bytes()
    key = hashlib.sha256(b"content\0" + data).digest()
    store.put(key, data)
    return key


def program_key(made_by: str, graph: Graph) -> bytes:
    """Return the key of a subgraph's program; `made_by` is the device's `identity`.

    What an opaque operation does stands in its file alone: the part of the file that it is counts.
    Raises EncodingError where the file has no such part.
    """
    digest = hashlib.sha256(b"program\0" + made_by.encode() + b"\0" + serial.content(graph))
    if graph.origin is not None and any(isinstance(op, Opaque) for op in graph.ops):
        digest.update(graph.origin.cut(graph).content)
    return digest.digest()


def identity(device: Device) -> str | None:
    """Return everything that a program depends on beside its subgraph.

    None: programs of this device must not be cached.
    """
    signature = device.signature()
    if signature is None:
        return None
    package = type(device).__module__.partition(".")[0]
    return "\0".join((_version(), device.driver, device.chip, signature, source_hash(package)))


@functools.cache
def source_hash(package: str) -> str:
    """Return a hash over names, sizes and times of the source files that programs depend on.

    These are the files of `package`, of `teflon_common` and of `teflon`. An edit or another
    installation changes the hash.
    """
    digest = hashlib.sha256()
    for name in sorted({package, "teflon_common", "teflon"}):
        digest.update("\n".join([name, *_files_of(name)]).encode())
    return digest.hexdigest()


def _files_of(package: str) -> Iterator[str]:
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    top, name = os.path.split(file)
    if (
        file and name.partition(".")[0] != "__init__"
    ):  # a plugin of one module: no folder is its own
        stat = os.stat(file)
        yield f"{name} {stat.st_size} {stat.st_mtime_ns}"
        return
    if not top:
        return
    for folder, inner, names in os.walk(top):
        inner[:] = sorted(name for name in inner if name not in _NO_COMPILERS)
        for name in sorted(names):
            if name.endswith((".py", ".so", ".pyd")):
                stat = os.stat(os.path.join(folder, name))
                yield f"{folder[len(top) :]}/{name} {stat.st_size} {stat.st_mtime_ns}"


@functools.cache
def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("teflon-npu")
    except PackageNotFoundError:
        return "unknown"
