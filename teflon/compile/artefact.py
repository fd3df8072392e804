"""Compiled models as files: what `teflon compile` writes and `teflon.load` takes (.teflon).

One file: a head, a JSON description, then sections of bytes, each at a multiple of 64: constants
that the CPU needs, and the programs. Each section and the description have a checksum of their
own, so that loading looks only at what it uses; the file is mapped, constants stay in the map.
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

from teflon.compile.cache import Cache
from teflon.compile.partition import Plan
from teflon.compile.plan_json import plan_from_json, plan_to_json
from teflon.errors import DriverUnavailable, ModelError, ProgramError, VerifyError
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array, TensorType
from teflon.pipe import Device, Program
from teflon.plugins import discover
from teflon.run.model import Compiled

MAGIC = b"TEFLONMO"
FORMAT = 1
_HEAD = struct.Struct("<8sIIIIQ")  # magic, format, length and CRC-32 of the JSON, 0, file size
_ALIGN = 64
_BROKEN = (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError,
           ArithmeticError, struct.error)  # fmt: skip


def is_compiled(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as ours do; False for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def pack(device: Device, plan: Plan, programs: Sequence[Program | None], whole: bool) -> bytes:
    """Return a compiled model's file.

    Constants that only the device uses are in its programs; `whole` keeps them for the graph too,
    so that layers can be compared with the reference.
    """
    sections: list[bytes] = []

    def keep(data: bytes) -> int:
        sections.append(data)
        return len(sections) - 1

    needed = _needed(plan)

    def place(value: Value) -> int | None:
        assert value.data is not None
        return keep(value.data.tobytes()) if whole or value in needed else -1

    plain = {
        "driver": device.driver,
        "chip": device.chip,
        "whole": whole,
        "plan": plan_to_json(plan, place),
        "programs": [
            keep(program.to_bytes()) if program and part.device == 0 else None
            for part, program in zip(plan.partitions, programs, strict=True)
        ],
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
class CompiledFile:
    """A compiled model's file, mapped; a `runtime.Preparer`."""

    path: str
    data: mmap.mmap
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

    def __call__(self, devices: Sequence[Device], cache: Cache) -> Compiled:
        """Return plan and programs. Raises ProgramError for another target and what is damaged."""
        device = devices[0]
        have, want = (self.driver, self.chip), (device.driver, device.chip)
        if have != want:
            titles = [" ".join(dict.fromkeys(names)) for names in (have, want)]
            raise ProgramError(
                f"{self.path}: is compiled for {titles[0]}, must be for {titles[1]}"
                f" (compile the model with --device {device.chip})"
            )
        plan = self.plan()
        if any(part.device >= len(devices) for part in plan.partitions):
            raise ProgramError(f"{self.path}: needs a second device, there is only {want}")
        return plan, tuple(self._programs(plan, devices))

    def plan(self) -> Plan:
        """Return the plan. Raises ProgramError."""
        with self._reading():
            plan = plan_from_json(self.plain["plan"], self._constant)
            plan.graph.verify()
            if len(self.plain["programs"]) != len(plan.partitions):
                raise ValueError("there are not as many programs as partitions")
            return plan

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

    def _programs(self, plan: Plan, devices: Sequence[Device]) -> Iterator[Program | None]:
        for part, number in zip(plan.partitions, self.plain["programs"], strict=True):
            if part.device != 0:
                device = devices[part.device] if part.device > 0 else None
                yield device.compile(part.graph) if device else None
                continue
            with self._reading():
                program = devices[0].load(self._view(number))
                for what in ("inputs", "outputs"):
                    theirs = [(t.dtype, t.shape) for t in getattr(program, what)]
                    if theirs != [(v.type.dtype, v.shape) for v in getattr(part.graph, what)]:
                        raise ValueError(f"program {part.index} has other {what} than its graph")
            yield program

    def _view(self, number: Any) -> memoryview:
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
        if reference == -1:  # nobody reads it; only its shape is asked for
            return np.broadcast_to(np.zeros((), dtype), kind.shape)
        return np.frombuffer(self._view(reference), dtype).reshape(kind.shape)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with _damage(self.path):
            yield


@contextmanager
def _damage(path: str) -> Iterator[None]:
    """Raise ProgramError where the content is not what `pack` writes."""
    try:
        yield
    except (ProgramError, VerifyError) as error:
        raise ProgramError(f"{path}: {error}") from error
    except _BROKEN as error:
        raise ProgramError(f"{path}: is damaged, {error} (compile the model again)") from error


def open_compiled(path: str | os.PathLike[str]) -> CompiledFile:
    """Return a compiled model; of its content only the description was looked at.

    Raises ProgramError for a file that is none, is damaged, or has another format.
    """
    name = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise ProgramError(f"{name}: cannot be read, {error}") from error
    if len(data) < _HEAD.size or data[: len(MAGIC)] != MAGIC:
        raise ProgramError(f"{name}: is no compiled model, must begin with {MAGIC!r}")
    _, form, length, checksum, zero, size = _HEAD.unpack_from(data)
    if form != FORMAT:
        raise ProgramError(f"{name}: format is {form}, must be {FORMAT} (compile the model again)")
    text = data[_HEAD.size : _HEAD.size + length]
    if (size, zero) != (len(data), 0) or zlib.crc32(text) != checksum:
        raise ProgramError(
            f"{name}: is damaged, its {len(data)} bytes are not what was written"
            " (compile the model again)"
        )
    with _damage(name):
        plain = json.loads(text)
        if not isinstance(plain["driver"], str) or not isinstance(plain["chip"], str):
            raise TypeError("driver and chip are no texts")
    begin = _HEAD.size + length
    return CompiledFile(name, data, plain, begin + -begin % _ALIGN)
