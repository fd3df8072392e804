"""Programs in the compile cache: found by what they are made from.

A key covers the subgraph's content, the chip, what the driver says of itself, our version, and the
state of every source file that has a part in compiling.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import Iterator

from teflon.compile.cache import Cache, configured
from teflon.errors import ProgramError
from teflon.ir import serial
from teflon.ir.graph import Graph
from teflon.pipe import Device, Program

_NO_COMPILERS = ("__pycache__", "simulator", "cli", "data")
"""Folders whose files have no part in a program."""


def compile_program(device: Device, graph: Graph, cache: Cache | None = None) -> Program:
    """Return the device's program for a subgraph: from the cache where it is there.

    `cache` None means the configured one. Raises what `Device.compile` raises.
    """
    store = configured() if cache is None else cache
    made_by = identity(device) if store.folder is not None else None
    if made_by is None:
        return device.compile(graph)
    key = program_key(made_by, graph)
    return cached_program(device, key, store) or _compiled(device, graph, key, store)


def cached_program(device: Device, key: bytes, store: Cache) -> Program | None:
    """Return the program under a key, None where there is none that the device can load."""
    data = store.get(key, sealed=True)  # Device.load checks it
    if data is None:
        return None
    try:
        return device.load(data)
    except ProgramError:
        store.discard(key, "was refused by the driver")
        return None


def _compiled(device: Device, graph: Graph, key: bytes, store: Cache) -> Program:
    program = device.compile(graph)
    store.put(key, program.to_bytes())
    return program


def program_key(made_by: str, graph: Graph) -> bytes:
    """Return the key of a subgraph's program; `made_by` from `identity`."""
    return hashlib.sha256(b"program\0" + made_by.encode() + b"\0" + serial.content(graph)).digest()


def identity(device: Device) -> str | None:
    """Return all that a program depends on beside its subgraph; None: must not be cached."""
    signature = device.signature()
    if signature is None:
        return None
    package = type(device).__module__.partition(".")[0]
    return "\0".join((_version(), device.driver, device.chip, signature, sources(package)))


@functools.cache
def sources(package: str) -> str:
    """Return a hash over name, size and time of the source files that programs depend on.

    These are the package's own, the drivers' common ones and ours. An edit or another installation
    changes the hash.
    """
    digest = hashlib.sha256()
    for name in sorted({package, "teflon_common", "teflon"}):
        digest.update("\n".join([name, *_files_of(name)]).encode())
    return digest.hexdigest()


def _files_of(package: str) -> Iterator[str]:
    file = getattr(sys.modules.get(package), "__file__", None)
    top = os.path.dirname(file or "")
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
