"""Compile a recorded model partition by partition and compare with what Mesa submitted."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from teflon.frontend.tflite import reader as tflite
from teflon.ir.graph import Graph
from teflon_common import recording
from teflon_common.recording import Recording
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import ADDR32, STREAM, EtnavivProgram, Reloc
from tests.paths import GOLDEN, ROOT
from tests.recorded import expected_failures as lines
from tests.recorded import model_bytes, partitions

CHIPS = ("a311d", "s905d3", "imx8mp")
NAMES = sorted(p.stem for p in (GOLDEN / "a311d").glob("*.npz")) if GOLDEN else []


@functools.lru_cache(maxsize=2)
def graph_of(name: str) -> Graph:
    """The model of a recording."""
    return tflite.read(model_bytes(name), name)


def expected_failures(chip: str) -> dict[str, str]:
    """Recording -> why its result is not TFLite's."""
    path = ROOT / f"drivers/etnaviv/ci/etnaviv-{chip}-recordings-fails.txt"
    return dict(line.split(maxsplit=1) for line in lines(path))


def recording_of(chip: str, name: str) -> Recording:
    """What Mesa submitted for a model on a chip."""
    assert GOLDEN is not None
    return recording.read(GOLDEN / chip / f"{name}.npz")


@dataclass(frozen=True)
class Part:
    """One partition: our program, the submit it was recorded as, the handle of its buffer 0."""

    graph: Graph
    program: EtnavivProgram
    submit: int
    first_handle: int

    def handle(self, buffer: int) -> int:
        return STREAM if buffer == STREAM else self.first_handle + buffer


class Matched:
    """Strategy mesa's programs of all partitions of a model beside their recording."""

    def __init__(self, chip: str, name: str) -> None:
        self.recording = recording_of(chip, name)
        device = EtnavivDevice(chip, {"strategy": "mesa"})
        self.chip = device.limits
        self.made = [bo for bo in self.recording.meta["bos"] if bo["of_model"]]
        self.parts: list[Part] = []
        at = 0
        for number, graph in enumerate(partitions(self.recording, graph_of(name))):
            program = device.compile(graph)
            first = self.made[at]["handle"] if at < len(self.made) else 0
            self.parts.append(Part(graph, program, number + 1, first))
            at += len(program.buffers)

    def submit(self, part: Part) -> dict[str, Any] | None:
        """The recorded submit of a partition; None where Mesa had nothing to submit."""
        found = [s for s in self.recording.submits if s["submit"] == part.submit]
        return found[0] if found else None

    def problems(self) -> Iterator[str]:
        """What differs, in a word each."""
        ours = [b.size for part in self.parts for b in part.program.buffers]
        if ours != [bo["size"] for bo in self.made]:
            yield "buffer sizes"
        for part in self.parts:
            yield from self._stream_problems(part)
            yield from self._buffer_problems(part)
        if self._recorded_relocs() != self._our_relocs():
            yield "addresses"

    def _recorded_relocs(self) -> set[Any]:
        found = set()
        for place, offset, kind, handle, target in self.recording.meta["relocs"]:
            what, *numbers = place.split("_")
            key = (STREAM, int(numbers[0])) if what == "stream" else (int(numbers[0]), 0)
            found.add((*key, offset, kind, handle, target))
        return found

    def _our_relocs(self) -> set[Any]:
        return {
            (part.handle(r.buffer), part.submit if r.buffer == STREAM else 0, r.offset, r.kind,
             part.handle(r.target), r.addend)
            for part in self.parts
            for r in part.program.relocs
        }  # fmt: skip

    def _stream_problems(self, part: Part) -> Iterator[str]:
        submit = self.submit(part)
        if submit is None:
            if part.program.stream or part.program.bos:
                yield "a submit that Mesa does not make"
            return
        ours = filled(part.program.stream, part.program.relocs, STREAM)
        if ours != self.recording.normalised_stream(part.submit):
            yield "stream"
        if [[part.handle(b), f] for b, f in part.program.bos] != [b[:2] for b in submit["bos"]]:
            yield "BO list"

    def _buffer_problems(self, part: Part) -> Iterator[str]:
        for number, buffer in enumerate(part.program.buffers):
            if buffer.data is None:
                continue
            handle = part.handle(number)
            recorded = (self.recording.normalised(handle, part.submit) or b"").rstrip(b"\0")
            ours = bytearray(filled(bytes(buffer.data), part.program.relocs, number))
            for offset in self.recording.unstable(self.recording.key(handle, part.submit) or ""):
                ours[offset : offset + 4] = bytes(4)
            if bytes(ours).rstrip(b"\0") != recorded:
                yield f"{buffer.role} of {buffer.name!r}"


def put(data: bytearray, offset: int, kind: str, target: int) -> None:
    """Put what an address is relative to its buffer in the place of the address."""
    if offset + 4 > len(data):
        return
    (word,) = struct.unpack_from("<I", data, offset)
    new = target if kind == ADDR32 else word & ~0x3FFFFFF | target >> 6
    struct.pack_into("<I", data, offset, new)


def filled(data: bytes, relocs: tuple[Reloc, ...], buffer: int) -> bytes:
    """Our bytes as if every buffer lay at address 0."""
    content = bytearray(data)
    for r in relocs:
        if r.buffer == buffer:
            put(content, r.offset, r.kind, r.addend)
    return bytes(content)
