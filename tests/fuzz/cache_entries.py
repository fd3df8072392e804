"""Mutants of compile caches, behind right checksums: the model must load, and be cached anew.

python -m tests.fuzz.cache_entries --count 10000 --seed 1 [--state FILE]
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import teflon
from teflon.compile.cache import _HEAD, FORMAT, MAGIC, SUFFIX
from teflon.errors import SimulatorFault, TeflonError
from teflon.ir.types import Array
from teflon.samples.models import resolve
from tests.fuzz.container import change_json, mutate
from tests.fuzz.damages import ETNAVIV, ROCKET
from tests.fuzz.runner import Kind, Mutant, Random, main
from tests.fuzz.values import dumps, pick

SPECS = ("sim:rk3588", "sim:a311d")
Entries = dict[str, bytes]
"""File name -> payload, of one model and device."""


def run(spec: str, folder: Path) -> list[Array]:
    """Load the model with a cache and run it."""
    with teflon.load(resolve("digits_int8"), spec, cache=folder) as model:
        return model.run(*(np.zeros(i.shape, i.dtype) for i in model.inputs))


def seeds() -> list[bytes]:
    """Return the cache of each device, pickled: (spec, entries, outputs)."""
    found = []
    for spec in SPECS:
        with tempfile.TemporaryDirectory() as folder:
            outputs = [array.tobytes() for array in run(spec, Path(folder))]
            files = sorted(Path(folder).iterdir())
            entries = {file.name: file.read_bytes()[_HEAD.size :] for file in files}
        found.append(pickle.dumps((spec, entries, outputs)))
    return found


def change(random: Random, corpus: Sequence[bytes]) -> Mutant:
    """Return a cache in which one entry is damaged, or is no file."""
    spec, entries, outputs = pickle.loads(pick(random, corpus))
    name, way = pick(random, list(entries)), random.random()
    payload = entries[name]
    if way < 0.1:
        kind = pick(random, ["fifo", "socket", "folder", "full folder", "link", "empty", "secret"])
        return Mutant(kind, pickle.dumps((spec, entries, outputs, name, kind)))
    if payload[:1] == b"{" and way < 0.7:
        plain = json.loads(payload)
        field = change_json(random, plain)
        entries[name] = dumps(plain)
    elif payload[:8] == b"TEFLONPR" and way < 0.7:
        field, entries[name] = mutate(random, [payload], ROCKET if "rk" in spec else ETNAVIV)
    elif way < 0.85:
        changed = bytearray(payload)
        changed[int(random.integers(len(changed)))] ^= 1 << int(random.integers(8))
        field, entries[name] = "bytes", bytes(changed)
    else:
        field = "exchanged"
        entries[name] = pick(random, [*entries.values(), b"", payload[: len(payload) // 2]])
    return Mutant(field, pickle.dumps((spec, entries, outputs, name, "")))


def _write(folder: Path, entries: Entries) -> None:
    for name, payload in entries.items():
        key = bytes.fromhex(name.removesuffix(SUFFIX))
        head = _HEAD.pack(MAGIC, FORMAT, zlib.crc32(payload), key, len(payload))
        (folder / name).write_bytes(head + payload)


def _replace(path: Path, kind: str) -> None:
    """Put something that is no entry in an entry's place."""
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as left:
            left.bind("s")
        os.rename("s", path.name)
        os.chdir(here)
    elif "folder" in kind:
        path.mkdir()
        if kind == "full folder":
            (path / "file").touch()
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.touch(0o000 if kind == "secret" else 0o644)


def use(data: bytes, random: Random) -> str:
    """Load the model twice with a damaged cache: it must run, and run from the cache after that."""
    spec, entries, outputs, name, kind = pickle.loads(data)
    with tempfile.TemporaryDirectory(prefix="teflon-fuzz-") as folder:
        _write(Path(folder), entries)
        if kind:
            _replace(Path(folder) / name, kind)
        for _ in range(2):
            try:
                have = [array.tobytes() for array in run(spec, Path(folder))]
            except SimulatorFault:  # a program that is well formed and does something else
                return "other program"
            except TeflonError as error:
                raise AssertionError(f"a damaged cache breaks the model: {error}") from error
        whole = (Path(folder) / name).is_file()
    if have != outputs:
        return "other result"
    return "replaced" if whole else "left"


KINDS = {"cache_entries": Kind("cache_entries", seeds, change, use, seconds=60.0)}

if __name__ == "__main__":
    sys.exit(main(KINDS, __name__))
