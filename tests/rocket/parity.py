"""Compile a recorded model partition by partition and compare with what was submitted."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from teflon.frontend.tflite import reader as tflite
from teflon.ir.graph import Graph
from teflon_common import recording
from teflon_common.recording import Recording
from teflon_rocket.chips import RK3588
from teflon_rocket.program import RocketProgram
from teflon_rocket.strategies import STRATEGIES
from tests.paths import GOLDEN, ROOT
from tests.recorded import expected_failures as lines
from tests.recorded import model_bytes, partitions
from tests.rocket.apart import APART

FAILS = ROOT / "drivers" / "rocket" / "ci" / "rocket-rk3588-parity-fails.txt"
NAMES = sorted(p.stem for p in (GOLDEN / "rocket").glob("*.npz")) if GOLDEN else []
_VALUE = ~(0xFFFFFFFF << 16)


def expected_failures() -> dict[str, str]:
    """Recording -> why it cannot be matched."""
    return {name: reason for name, _, reason in (line.partition(": ") for line in lines(FAILS))}


@functools.lru_cache(maxsize=2)
def read(name: str) -> tuple[Recording, Graph]:
    """A recording and its model."""
    assert GOLDEN is not None
    return recording.read(GOLDEN / "rocket" / f"{name}.npz"), tflite.read(model_bytes(name), name)


def recorded_buffers(recording: Recording) -> list[dict[str, Any]]:
    return [bo for bo in recording.meta["bos"] if bo["of_model"]]


class Matched:
    """Programs of all partitions, and the handles that their buffers have in the recording."""

    def __init__(self, recording: Recording, graph: Graph, strategy: str) -> None:
        alike = APART if strategy == "exact" else STRATEGIES[strategy]({})
        self.recording = recording
        self.programs = [alike.compile(part, RK3588) for part in partitions(recording, graph)]
        handles = iter([bo["handle"] for bo in recorded_buffers(recording)])
        self.handles = [[next(handles, -1) for _ in p.buffers] for p in self.programs]

    def sizes(self) -> tuple[list[int], list[int]]:
        """BO sizes in creation order: recorded, ours."""
        ours = [b.size for p in self.programs for b in p.buffers]
        return [bo["size"] for bo in recorded_buffers(self.recording)], ours

    def contents(self) -> Iterator[tuple[str, bytes, bytes]]:
        """(role, recorded bytes, our bytes) of every buffer that is filled, addresses removed."""
        for program, handles in zip(self.programs, self.handles, strict=True):
            for number, (buffer, handle) in enumerate(zip(program.buffers, handles, strict=True)):
                if buffer.data is None:
                    continue
                recorded = self.recording.normalised(handle) or b""
                ours = _without_addresses(program, number).ljust(buffer.size, b"\0")
                yield buffer.role, recorded[: buffer.size].ljust(buffer.size, b"\0"), ours

    def addresses(self) -> tuple[set[Any], set[Any]]:
        """{(handle, byte offset, target handle, addend)}: recorded, ours."""
        recorded = {
            (int(where.split("_")[1]), offset, handle, addend)
            for where, offset, kind, handle, addend in self.recording.meta["relocs"]
            if kind == "regcmd_value"
        }
        ours = {
            (handles[r.buffer], r.offset, handles[r.target], r.addend)
            for p, handles in zip(self.programs, self.handles, strict=True)
            for r in p.relocs
        }
        return recorded, ours

    def jobs(self) -> tuple[list[Any], list[Any]]:
        """[(tasks, in handles, out handles)]: recorded, ours."""
        recorded = [
            ([(*(self.recording.find(a) or ()), n) for a, n in job["tasks"]], job["in"], job["out"])
            for submit in self.recording.submits
            for job in submit["jobs"]
        ]
        ours = [
            (
                [(handles[t.buffer], t.offset, t.count) for t in job.tasks],
                [handles[b] for b in job.reads],
                [handles[b] for b in job.writes],
            )
            for p, handles in zip(self.programs, self.handles, strict=True)
            for job in p.jobs
        ]
        return recorded, ours

    def inputs(self, arrays: dict[int, Any]) -> Iterator[tuple[str, bytes, bytes]]:
        """(tensor, recorded bytes, our bytes) of converted inputs that were recorded."""
        for submit, (program, handles) in enumerate(zip(self.programs, self.handles, strict=True)):
            for port, value in zip(program.input_ports, program.inputs, strict=True):
                recorded = self.recording.bo(handles[port.buffer], submit)
                match = [a for a in arrays.values() if a.shape == value.shape]
                if recorded is None or len(arrays) > 1 or not match:
                    continue
                size = program.buffers[port.buffer].size
                memory = np.zeros(size, np.uint8)
                port.store(match[0], memory)
                yield str(value), recorded[:size].ljust(size, b"\0"), memory.tobytes()


def _without_addresses(program: RocketProgram, number: int) -> bytes:
    data = program.buffers[number].data
    assert data is not None
    if program.buffers[number].role != "regcmd":
        return bytes(data)
    words = np.frombuffer(data, "<u8").copy()
    for r in program.relocs:
        if r.buffer == number:
            words[r.offset // 8] = int(words[r.offset // 8]) & _VALUE | r.addend << 16
    return words.tobytes()
