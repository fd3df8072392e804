"""Reads the vendor's compiled networks: tensors, operations, tasks, command words, relocations.

An .rknn file holds a flatbuffer behind 64 bytes of head. Nobody has published its schema; what
stands here was read off the files of ../shared/vendor/rocket, where every number was checked
against the command words (`read` holds the relocations against them).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import flatbuffers.number_types as kinds
import numpy as np
from flatbuffers.table import Table
from numpy.typing import NDArray

HEAD = 64
NPU = 2
"""Field 3 of an operation that runs on the NPU."""
LAYOUT_SURFACES = 64
INT8, FLOAT16 = 3, 10
"""Types of tensors."""


@dataclass(frozen=True)
class Tensor:
    """A tensor: `native` is [batch, surfaces, height, width, channels of a surface].

    `offset` is its place among the tensors that change, `data` the bytes of a constant.
    `scale` is None where it is not quantised; `code` names its type (3: int8).
    """

    name: str
    code: int
    layout: int
    native: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float | None
    zero: int
    size: int
    offset: int
    data: bytes | None


@dataclass(frozen=True)
class Operation:
    """`counts` is the number of tasks: of one core, of both of two cores, of each of three."""

    kind: str
    name: str
    npu: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counts: tuple[int, ...]
    tables: int
    """Tasks before those of `counts` that load tables."""


@dataclass(frozen=True)
class TaskEntry:
    """An entry of the task table; `first` is the index of its first command word."""

    operation: int
    mask: int
    interrupts: int
    amount: int
    first: int


@dataclass(frozen=True)
class Relocation:
    """Word `word` holds an address: `addend` bytes behind the start of a tensor."""

    word: int
    addend: int
    tensor: str


@dataclass(frozen=True)
class Network:
    """A compiled network. `starts` is where in `tasks` the lists of 1, 2 and 3 cores begin."""

    name: str
    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tasks: tuple[TaskEntry, ...]
    starts: tuple[int, int, int]
    words: NDArray[np.uint64]
    relocations: tuple[Relocation, ...]
    room: int
    """Bytes of memory for all tensors that are no constants."""

    @cached_property
    def named(self) -> dict[str, Tensor]:
        return {t.name: t for t in self.tensors}


class Fields:
    """A flatbuffer table, its fields by number."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data, self.table = data, Table(data, place)

    def _at(self, number: int) -> int:
        offset: int = self.table.Offset(4 + 2 * number)
        return offset and offset + self.table.Pos

    def number(self, number: int, kind: Any = kinds.Uint32Flags, default: int = 0) -> int:
        place = self._at(number)
        return int(self.table.Get(kind, place)) if place else default

    def text(self, number: int) -> str:
        place = self._at(number)
        return bytes(self.table.String(place)).decode() if place else ""

    def child(self, number: int) -> Fields:
        return Fields(self.data, self.table.Indirect(self._at(number)))

    def children(self, number: int) -> list[Fields]:
        place, count = self._vector(number)
        return [Fields(self.data, self.table.Indirect(place + 4 * i)) for i in range(count)]

    def array(self, number: int, kind: str) -> NDArray[Any]:
        place, count = self._vector(number)
        return np.frombuffer(self.data, kind, count, place)

    def _vector(self, number: int) -> tuple[int, int]:
        place = self._at(number)
        if not place:
            return 0, 0
        offset = place - self.table.Pos
        return self.table.Vector(offset), self.table.VectorLen(offset)


def read(path: Path) -> Network:
    """Read an .rknn file; raises AssertionError where it is not what we know of such files."""
    raw = path.read_bytes()
    assert raw[:4] == b"RKNN", path
    data = raw[HEAD : HEAD + int.from_bytes(raw[16:24], "little")]
    root = Fields(data, int.from_bytes(data[:4], "little"))
    chunks = [c.array(0, "u1").tobytes() for c in root.children(20)]
    (graph,) = root.children(2)
    tensors = tuple(_tensor(t, chunks) for t in graph.children(0))
    named = {t.name: t for t in tensors}
    words = np.frombuffer(named["regcmd"].data or b"", "<u8") if "regcmd" in named else _NO_WORDS
    starts = graph.array(10, "<u4").tolist()
    return Network(
        name=path.stem,
        tensors=tensors,
        operations=tuple(map(_operation, graph.children(1))),
        inputs=tuple(tensors[i] for i in graph.array(2, "<u4")),
        outputs=tuple(tensors[i] for i in graph.array(3, "<u4")),
        tasks=tuple(_tasks(named["task"].data or b"")) if "task" in named else (),
        starts=(starts[2], starts[3], starts[4]) if len(starts) == 5 else (0, 0, 0),
        words=words,
        relocations=_relocations(graph, words),
        room=root.child(19).number(1, kinds.Uint64Flags),
    )


_NO_WORDS = np.zeros(0, "<u8")


def _tensor(fields: Fields, chunks: list[bytes]) -> Tensor:
    scales, zeros = fields.array(10, "<f4"), fields.array(11, "<i4")
    chunk = fields.number(18)
    return Tensor(
        name=fields.text(5),
        code=fields.number(0, kinds.Uint8Flags),
        layout=fields.number(1, kinds.Uint8Flags),
        native=tuple(fields.array(3, "<u4").tolist()),
        shape=tuple(fields.array(4, "<u4").tolist()),
        scale=float(scales[0]) if len(scales) == 1 else None,
        zero=int(zeros[0]) if len(zeros) == 1 else 0,
        size=fields.number(12),
        offset=fields.number(13),
        data=chunks[chunk] if chunk else None,
    )


def _operation(fields: Fields) -> Operation:
    def integers(number: int) -> tuple[int, ...]:
        return tuple(fields.array(number, "<u4").tolist())

    return Operation(
        kind=fields.text(1),
        name=fields.text(2),
        npu=fields.number(3, kinds.Uint8Flags) == NPU,
        inputs=integers(4),
        outputs=integers(5),
        counts=integers(10),
        tables=sum(integers(11)),
    )


def _tasks(table: bytes) -> list[TaskEntry]:
    """40 bytes each; see docs/hardware/rocket_vendor.md §2, "Task table inside the .rknn"."""
    made = []
    for row in np.frombuffer(table, "<u4").reshape(-1, 10).tolist():
        assert row[0] == row[5] == row[7] == row[9] == 0, row
        assert row[4] == 0x1FFFF, row
        made.append(TaskEntry(row[1], row[2], row[3], row[6], row[8] // 8))
    return made


def _relocations(graph: Fields, words: NDArray[np.uint64]) -> tuple[Relocation, ...]:
    made = []
    for fields in graph.children(7):
        place, count = fields._vector(1)
        pairs = np.frombuffer(fields.data, "<u4", 2 * count, place).reshape(-1, 2).tolist()
        made += [Relocation(word, addend, fields.text(0)) for addend, word in pairs]
    for r in made:
        assert int(words[r.word]) >> 16 & 0xFFFFFFFF == r.addend, r
    return tuple(made)
