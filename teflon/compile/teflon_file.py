"""`.teflon` files: compiled models, which `teflon compile` writes and `teflon.load` runs.

A file has a head, a JSON description (`artefact_json`), then sections of bytes, each at a multiple
of 64: the constants that the CPU needs, and the programs. The description and each section have
their own checksum, so that opening a file reads only what is used. The file is mapped into memory,
and constants are views of the map.
"""

from __future__ import annotations

import json
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
from teflon.compile.chain import DEFAULT, Host
from teflon.compile.partition import Partition, Plan
from teflon.devices import CPU, guarded
from teflon.errors import DriverUnavailable, ModelError, ProgramError, VerifyError
from teflon.files import contents
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
    """Return an artefact as the bytes of a file.

    The programs contain the constants that only the device uses. `whole` stores these constants for
    the graph too, so that layers can be compared with the reference.
    """
    sections: list[bytes] = []

    def add(data: bytes) -> int:
        sections.append(data)
        return len(sections) - 1

    left_out = frozenset() if whole else _device_constants(artefact)

    def place(value: Value) -> int:
        assert value.data is not None
        return -1 if value in left_out else add(value.data.tobytes())

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


def _device_constants(artefact: Artefact) -> frozenset[Value]:
    """Return the constants that the first device's programs have and nothing else reads.

    The CPU driver's programs are left out, so its constants are not among them.
    """
    if artefact.devices[0].driver == CPU:
        return frozenset()
    plan = artefact.plan
    mine = {v for part in plan.partitions if part.device == 0 for v in part.graph.constants}
    others = {v for part in plan.partitions if part.device != 0 for v in part.graph.constants}
    return frozenset(mine - others - set(plan.graph.outputs))


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
    """An opened `.teflon` file; opening it reads the description only."""

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
        """Whether the file contains the constants of the device's operations too."""
        return bool(self.plain["whole"])

    def artefact(self, device: Device, host: Host = DEFAULT) -> Artefact:
        """Return the artefact. Raises ProgramError if it is damaged or made for another device."""
        have, want = (self.driver, self.chip), (device.driver, device.chip)
        if have != want:
            titles = [" ".join(dict.fromkeys(names)) for names in (have, want)]
            raise ProgramError(
                f"{self.path}: is compiled for {titles[0]}, must be for {titles[1]}"
                f" (compile the model with --device {device.chip})"
            )
        with _damage(self.path):
            return from_json(
                self.plain, device, host, self._constant, lambda n, of: of.load(self._section(n))
            )

    def plan(self) -> Plan:
        """Return the plan. Raises ProgramError."""
        with _damage(self.path):
            return plan_from_json(self.plain, self._constant)

    def graph(self) -> Graph:
        """Return the graph after all passes. Raises ModelError if the file lacks its weights."""
        if not self.whole:
            raise ModelError(
                f"{self.path}: has programs for {self.chip} but not the weights of these operations"
                " (compile the model with --whole, or name the model itself)"
            )
        return self.plan().graph

    def device(self) -> Device:
        """Return the description of the chip that the file is for. Raises DriverUnavailable."""
        driver = discover().drivers.get(self.driver)
        if driver is None:
            raise DriverUnavailable(
                f"{self.path}: its driver {self.driver!r} is not installed, must be installed"
            )
        return guarded(driver).device(self.chip)

    def _section(self, number: Any) -> memoryview:
        offset, size, checksum = self.plain["sections"][number]
        start = self.body + offset
        if not isinstance(number, int) or min(number, offset, size) < 0:
            raise ValueError(f"section {number} is at {offset} and has {size} bytes")
        if start + size > len(self.data):
            raise ValueError(f"section {number} ends after the end of the file")
        view = memoryview(self.data)[start : start + size]
        if zlib.crc32(view) != checksum:
            raise ValueError(f"section {number} has a wrong checksum")
        return view

    def _constant(self, reference: Any, kind: TensorType) -> Array:
        dtype = kind.dtype.numpy
        if reference == -1 and self.driver == CPU:
            raise ValueError("a constant is missing")
        if reference == -1:  # only the device reads this constant: the graph needs its shape alone
            return np.broadcast_to(np.zeros((), dtype), kind.shape)
        return np.frombuffer(self._section(reference), dtype).reshape(kind.shape)


@contextmanager
def _damage(path: str) -> Iterator[None]:
    """Turn errors of the body into ProgramError: the content is not what `pack` writes."""
    try:
        yield
    except (ProgramError, VerifyError, DriverUnavailable) as error:
        raise ProgramError(f"{path}: {error}") from error
    except _DAMAGED as error:
        raise ProgramError(f"{path}: is damaged, {error} (compile the model again)") from error


def open_file(path: str | os.PathLike[str]) -> TeflonFile:
    """Open a compiled model. Raises ProgramError as `parse` does, or if it cannot be read."""
    name = os.fsdecode(path)
    try:
        return parse(contents(path), name)
    except OSError as error:
        raise ProgramError(f"{name}: cannot be read, {error.strerror or error}") from error


def parse(data: Data, name: str) -> TeflonFile:
    """Return the compiled model in these bytes; messages call it `name`.

    Raises ProgramError for bytes that are not a compiled model, are damaged, or have another format
    version.
    """
    if len(data) < _HEAD.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise ProgramError(f"{name}: is not a compiled model, must begin with {MAGIC!r}")
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
                raise TypeError(f"{field} is {plain[field]!r}, must be text")
    begin = _HEAD.size + length
    return TeflonFile(name, data, plain, begin + -begin % _ALIGN)
