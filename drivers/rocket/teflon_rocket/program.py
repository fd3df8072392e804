"""A compiled rocket program: buffers, where addresses go, jobs, and how tensors lie in buffers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple, Self

import numpy as np

from teflon.ir.schema import Each, Inside, Malformed, Number, Pair, Table, Text
from teflon.ir.types import Array, TensorType
from teflon_common.layout import (
    LANES,
    Bytes,
    from_rows,
    from_surfaces,
    image_shape,
    to_rows,
    to_surfaces,
)
from teflon_common.program import FILLED, SIZES, TYPE, Buffer, BufferProgram, extents
from teflon_common.strategy import EXACT, MESA

DRIVER = "rocket"
VERSION = "3"
"""Raised whenever the compiler's output changes: programs of another version are refused."""

TENSOR = "tensor"
"""Role of buffers that hold feature maps."""
COMMANDS = "regcmd"
"""Role of buffers that hold command lists; all others that have content hold constants."""

SURFACES, ROWS, UNSET = "surfaces", "rows", "unset"
"""Layouts of a Port."""

ADDRESS_END = 1 << 32
"""All address registers, and the addresses of command lists, have 32 bits."""


@dataclass(frozen=True)
class Reloc:
    """A command that needs an address: that of buffer `target`, plus `addend`.

    It goes into bits 16 to 47 of the 64-bit word at byte `offset` of `buffer`.
    """

    buffer: int
    offset: int
    target: int
    addend: int


RELOCS = Table(
    "reloc",
    Reloc,
    buffer=Number(of=SIZES),
    offset=Inside("buffer", FILLED, 8, step=8),
    target=Number(of=SIZES),
    addend=Inside("target", SIZES),
)


@dataclass(frozen=True)
class Task:
    """One command list: byte offset in a regcmd buffer, and its length in 64-bit words."""

    buffer: int
    offset: int
    count: int


TASKS = Table(
    "task",
    Task,
    buffer=Number(of=SIZES),
    offset=Inside("buffer", FILLED, 8, step=8, count="count"),
    count=Number(1),
)


@dataclass(frozen=True)
class Job:
    """Tasks that run in order on one core, and the buffers that its fences guard.

    operations: (name, number of tasks) in order, for timelines; () where they are not known.
    """

    tasks: tuple[Task, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    name: str = ""
    operations: tuple[tuple[str, int], ...] = ()

    @property
    def task_names(self) -> tuple[str, ...]:
        """The operation of each task."""
        return tuple(name for name, count in self.operations for _ in range(count))


class _JobRow(NamedTuple):
    """A job without its tasks, of which it has so many."""

    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    tasks: int
    operations: tuple[tuple[str, int], ...]


_JOBS = Table(
    "job",
    _JobRow,
    name=Text(),
    reads=Each(Number(of=SIZES)),
    writes=Each(Number(of=SIZES)),
    tasks=Number(1),
    operations=Each(Pair(Text(), Number())),
)


def _jobs(rows: list[_JobRow], tasks: Sequence[Task]) -> tuple[Job, ...]:
    """Give jobs their tasks. Raises Malformed where their numbers differ."""
    ends = list(accumulate(row.tasks for row in rows))
    if (ends[-1] if ends else 0) != len(tasks):
        raise Malformed(f"its jobs have {ends[-1:]} tasks, must have all {len(tasks)}")
    for row in rows:
        if row.operations and sum(count for _, count in row.operations) != row.tasks:
            raise Malformed(
                f"operations of job {row.name!r} do not have its {row.tasks} tasks, must"
            )
    return tuple(
        Job(tuple(tasks[end - row.tasks : end]), row.reads, row.writes, row.name, row.operations)
        for end, row in zip(ends, rows, strict=True)
    )


def each_once(job: Job) -> Job:
    """Return a job with each buffer named once: the kernel drops one that names a buffer twice."""
    writes = dict.fromkeys(job.writes)
    reads = (buffer for buffer in dict.fromkeys(job.reads) if buffer not in writes)
    return dataclasses.replace(job, reads=tuple(reads), writes=tuple(writes))


def as_listed(job: Job) -> Job:
    """Return a job as it is."""
    return job


@dataclass(frozen=True)
class Port:
    """How an input or output of the program lies in a tensor buffer.

    layout: `surfaces` (NC1HWC2, 16 channels each), `rows` (one channel, rows of `row_pitch`
    bytes), `unset` (the data never reaches the device; strategy mesa does this to inputs of
    one-channel to one-channel convolutions). Every byte is XORed with `flip` on its way.
    """

    type: TensorType
    buffer: int
    layout: str
    offset: int = 0
    image_pitch: int = 0  # bytes from one image of a batch to the next
    row_pitch: int = 0
    flip: int = 0
    fill: int = 0  # byte in lanes and columns that hold no data
    name: str = ""  # the tensor's
    surface_pitch: int = 0  # pixels from one surface to the next, 0: none between them

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(images, height, width, channels) as the device sees the tensor."""
        return image_shape(self.type.shape)

    @property
    def end(self) -> int:
        """Bytes of the buffer up to the tensor's end.

        Raises Malformed for a tensor that cannot lie in a buffer in this way.
        """
        images, height, width, channels = self.shape
        if not self.type.size or self.type.dtype.numpy.itemsize != 1:
            raise Malformed(
                f"port {self.name!r}: type is {self.type.dtype.value}{list(self.type.shape)}, must"
                " have elements of one byte"
            )
        if self.layout == ROWS:
            fits, image = channels == 1 and self.row_pitch >= width, height * self.row_pitch
        else:
            pitch = self.surface_pitch or height * width
            surfaces = -(-channels // LANES)
            fits = pitch >= height * width
            image = ((surfaces - 1) * pitch + height * width) * LANES
        if not fits or (images > 1 and self.image_pitch < image):
            raise Malformed(f"port {self.name!r}: its pitches must be those of {list(self.shape)}")
        return self.offset + (images - 1) * self.image_pitch + image

    def store(self, array: Array, memory: Bytes) -> None:
        """Convert an array of `type` into the buffer's bytes."""
        if self.layout == "unset":
            return
        for number, image in enumerate(array.reshape(self.shape)):
            out = memory[self.offset + number * self.image_pitch :]
            if self.layout == "rows":
                to_rows(image, out, self.row_pitch, self.flip, self.fill)
            else:
                to_surfaces(image, out, self.flip, self.fill, self.surface_pitch)

    def fetch(self, memory: Bytes, into: Array | None = None) -> Array:
        """Return the tensor that lies in the buffer's bytes: a new array of `type`, or `into`,
        which is one that is C-contiguous.
        """
        found = np.empty(self.type.shape, self.type.dtype.numpy) if into is None else into
        out = found.reshape(self.shape).view(np.uint8)
        for number, image in enumerate(out):
            raw = memory[self.offset + number * self.image_pitch :]
            if self.layout == "rows":
                from_rows(raw, image, self.row_pitch, self.flip)
            else:
                from_surfaces(raw, image, self.flip, self.surface_pitch)
        return found


PORTS = Table(
    "port",
    Port,
    type=TYPE,
    buffer=Number(of=SIZES),
    layout=Text((SURFACES, ROWS, UNSET)),
    offset=Number(),
    image_pitch=Number(0, ADDRESS_END),
    row_pitch=Number(0, ADDRESS_END),
    flip=Number(0, 255),
    fill=Number(0, 255),
    name=Text(),
    surface_pitch=Number(0, ADDRESS_END),
)


@dataclass(frozen=True, eq=False)
class RocketProgram(BufferProgram):
    """What one RK3588 executes for a subgraph; addresses are filled in by the context."""

    version = VERSION
    port = Port
    ports = PORTS
    strategies = (EXACT, MESA)
    space = ADDRESS_END

    chip: str
    strategy: str
    buffers: tuple[Buffer, ...]
    relocs: tuple[Reloc, ...]
    jobs: tuple[Job, ...]
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    driver: str = DRIVER

    @property
    def statistics(self) -> Mapping[str, int]:
        """tasks, jobs, command_words, coefficient_bytes, bo_bytes, macs, dram_bytes, operations."""
        return self.counts

    def own_parts(self) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        tasks = [task for job in self.jobs for task in job.tasks]
        rows = [_JobRow(j.name, j.reads, j.writes, len(j.tasks), j.operations) for j in self.jobs]
        arrays = {"relocs": RELOCS.array(self.relocs), "tasks": TASKS.array(tasks)}
        return {"jobs": _JOBS.write(rows)}, arrays

    @classmethod
    def from_own_parts(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], common: Mapping[str, Any]
    ) -> Self:
        scope = extents(common["buffers"])
        tasks = TASKS.read(arrays["tasks"], scope)
        return cls(
            relocs=tuple(RELOCS.read(arrays["relocs"], scope)),
            jobs=_jobs(_JOBS.read(header["jobs"], scope), tasks),
            **common,
        )
