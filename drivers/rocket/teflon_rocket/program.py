"""A compiled rocket program: buffers, where addresses go, jobs, and how tensors lie in buffers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from teflon.ir.types import Array, TensorType
from teflon_common.layout import (
    Bytes,
    from_rows,
    from_surfaces,
    image_shape,
    to_rows,
    to_surfaces,
)
from teflon_common.program import Buffer, BufferProgram

DRIVER = "rocket"
VERSION = "3"
"""Raised whenever the compiler's output changes: programs of another version are refused."""

TENSOR = "tensor"
"""Role of buffers that hold feature maps."""
COMMANDS = "regcmd"
"""Role of buffers that hold command lists; all others that have content hold constants."""


@dataclass(frozen=True)
class Reloc:
    """A command that needs an address: that of buffer `target`, plus `addend`.

    It goes into bits 16 to 47 of the 64-bit word at byte `offset` of `buffer`.
    """

    buffer: int
    offset: int
    target: int
    addend: int


@dataclass(frozen=True)
class Task:
    """One command list: byte offset in a regcmd buffer, and its length in 64-bit words."""

    buffer: int
    offset: int
    count: int


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


@dataclass(frozen=True, eq=False)
class RocketProgram(BufferProgram):
    """What one RK3588 executes for a subgraph; addresses are filled in by the context."""

    version = VERSION
    port = Port

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
        tasks = [dataclasses.astuple(t) for j in self.jobs for t in j.tasks]
        jobs = [[j.name, j.reads, j.writes, len(j.tasks), j.operations] for j in self.jobs]
        return {"jobs": jobs}, {
            "relocs": np.array([dataclasses.astuple(r) for r in self.relocs], "<i8").reshape(-1, 4),
            "tasks": np.array(tasks, "<i8").reshape(-1, 3),
        }

    @classmethod
    def from_own_parts(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], common: Mapping[str, Any]
    ) -> Self:
        tasks = iter([Task(*row) for row in arrays["tasks"].tolist()])
        jobs = [
            Job(
                tuple(next(tasks) for _ in range(count)),
                tuple(reads),
                tuple(writes),
                name,
                tuple((operation, its) for operation, its in operations),
            )
            for name, reads, writes, count, operations in header["jobs"]
        ]
        relocs = tuple(Reloc(*row) for row in arrays["relocs"].tolist())
        return cls(relocs=relocs, jobs=tuple(jobs), **common)
