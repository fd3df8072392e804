"""`.teflon` files: what `teflon compile` writes and `teflon.load` runs without the model.

One file: a head, a JSON description (`artefact_json`), then sections of bytes, each at a multiple
of 64: the constants that the CPU needs, and the programs. The description and each section have a
checksum of their own, so that loading looks only at what it uses. The file is mapped, and constants
stay in the map.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from teflon.compile.artefact import Artefact
from teflon.compile.artefact_json import BROKEN, from_json, plan_from_json, to_json
from teflon.compile.partition import Partition, Plan
from teflon.errors import DriverUnavailable, ModelError, ProgramError, VerifyError
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array, TensorType
from teflon.pipe import Data, Device, Program
from teflon.plugins import discover

SUFFIX = ".teflon"
MAGIC = b"TEFLONMO"
FORMAT = 1
_HEAD = struct.Struct("<8sIIIIQ")  # magic, format, length and CRC-32 of the JSON, 0, file size
_ALIGN = 64
_DAMAGED = (*BROKEN, RuntimeError, ArithmeticError, struct.error)


def pack(artefact: Artefact, whole: bool = False) -> bytes:
    """Return the file of an artefact.

    Constants that only the device uses are in its programs; `whole` keeps them for the graph too,
    so that layers can be compared with the reference.
    """
    sections: list[bytes] = []

    def add(data: bytes) -> int:
        sections.append(data)
        return len(sections) - 1

    needed = _needed(artefact.plan)

    def place(value: Value) -> int:
        assert value.data is not None
        return add(value.data.tobytes()) if whole or value in needed else -1

    def keep(part: Partition, program: Program) -> int:
        return add(program.to_bytes())

    device = artefact.devices[0]
    plain = {
        "driver": device.driver,
        "chip": device.chip,
        "whole": whole,
        **to_json(artefact, place, keep),
    }
    return _file(plain, sections)


def _needed(plan: Plan) -> set[Value]:
    """Return the constants that somebody other than the first device reads."""
    found = {v for part in plan.partitions if part.device != 0 for v in part.graph.constants}
    return found | {v for v in plan.graph.outputs if v.is_constant}


def _file(plain: Mapping[str, Any], sections: Sequence[bytes]) -> bytes:
    table, at = [], 0
    for data in sections:
        table.append([at, len(data), zlib.crc32(data)])
        at += len(data) + -len(data) % _ALIGN
    text = json.dumps({**plain, "sections": table}, separators=(",", ":")).encode()
    gap = bytes(-(_HEAD.size + len(text)) % _ALIGN)
    size = _HEAD.size + len(text) + len(gap) + at
    head = _HEAD.pack(MAGIC, FORMAT, len(text), zlib.crc32(text), 0, size)
    padded = (part for data in sections for part in (data, bytes(-len(data) % _ALIGN)))
    return b"".join((head, text, gap, *padded))


@dataclass(frozen=True, eq=False)
class TeflonFile:
    """An opened `.teflon` file; of its content only the description was looked at."""

    path: str
    data: Data
    plain: Mapping[str, Any]
    body: int  # where the sections begin

    @property
    def driver(self) -> str:
        return str(self.plain["driver"])

    @property
    def chip(self) -> str:
        return str(self.plain["chip"])

    @property
    def whole(self) -> bool:
        """Whether the constants of the device's operations are there too."""
        return bool(self.plain["whole"])

    def artefact(self, devices: Sequence[Device]) -> Artefact:
        """Return plan and programs. Raises ProgramError for another target and what is damaged."""
        have, want = (self.driver, self.chip), (devices[0].driver, devices[0].chip)
        if have != want:
            titles = [" ".join(dict.fromkeys(names)) for names in (have, want)]
            raise ProgramError(
                f"{self.path}: is compiled for {titles[0]}, must be for {titles[1]}"
                f" (compile the model with --device {devices[0].chip})"
            )
        with _damage(self.path):
            return from_json(
                self.plain, devices, self._constant, lambda n: devices[0].load(self._section(n))
            )

    def plan(self) -> Plan:
        """Return the plan. Raises ProgramError."""
        with _damage(self.path):
            return plan_from_json(self.plain, self._constant)

    def graph(self) -> Graph:
        """Return the graph, after all passes. Raises ModelError where its weights are not kept."""
        if not self.whole:
            raise ModelError(
                f"{self.path}: holds no weights of what runs on {self.chip}, only their programs"
                " (teflon compile --whole keeps them; or name the model itself)"
            )
        return self.plan().graph

    def device(self) -> Device:
        """Return the description of the chip that it was made for. Raises DriverUnavailable."""
        driver = discover().drivers.get(self.driver)
        if driver is None:
            raise DriverUnavailable(
                f"{self.path}: is made by driver {self.driver!r}, which must be installed"
            )
        return driver.device(self.chip)

    def _section(self, number: Any) -> memoryview:
        offset, size, checksum = self.plain["sections"][number]
        start = self.body + offset
        if not isinstance(number, int) or min(number, offset, size) < 0:
            raise ValueError(f"section {number} lies at {offset}, {size} bytes")
        if start + size > len(self.data):
            raise ValueError(f"section {number} ends behind the file")
        view = memoryview(self.data)[start : start + size]
        if zlib.crc32(view) != checksum:
            raise ValueError(f"section {number} has another checksum than it was written with")
        return view

    def _constant(self, reference: Any, kind: TensorType) -> Array:
        dtype = kind.dtype.numpy
        if reference == -1:  # only the device reads it: its shape is all that is asked for
            return np.broadcast_to(np.zeros((), dtype), kind.shape)
        return np.frombuffer(self._section(reference), dtype).reshape(kind.shape)


@contextmanager
def _damage(path: str) -> Iterator[None]:
    """Raise ProgramError where the content is not what `pack` writes."""
    try:
        yield
    except (ProgramError, VerifyError) as error:
        raise ProgramError(f"{path}: {error}") from error
    except _DAMAGED as error:
        raise ProgramError(f"{path}: is damaged, {error} (compile the model again)") from error


def open_file(path: str | os.PathLike[str]) -> TeflonFile:
    """Return a compiled model. Raises ProgramError as `parse` does, and for what cannot be read."""
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ProgramError(f"{name}: cannot be read, {error}") from error
    return parse(memoryview(data), name)


def parse(data: Data, name: str) -> TeflonFile:
    """Return the compiled model in some bytes; `name` stands in messages.

    Raises ProgramError for what is none, is damaged, or has another format.
    """
    if len(data) < _HEAD.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise ProgramError(f"{name}: is no compiled model, must begin with {MAGIC!r}")
    _, form, length, checksum, zero, size = _HEAD.unpack_from(data)
    if form != FORMAT:
        raise ProgramError(f"{name}: format is {form}, must be {FORMAT} (compile the model again)")
    text = bytes(data[_HEAD.size : _HEAD.size + length])
    if (size, zero) != (len(data), 0) or zlib.crc32(text) != checksum:
        raise ProgramError(
            f"{name}: is damaged, its {len(data)} bytes are not what was written"
            " (compile the model again)"
        )
    with _damage(name):
        plain = json.loads(text)
        for field in ("driver", "chip"):
            if not isinstance(plain[field], str):
                raise TypeError(f"{field} is {plain[field]!r}, must be a text")
    begin = _HEAD.size + length
    return TeflonFile(name, data, plain, begin + -begin % _ALIGN)
