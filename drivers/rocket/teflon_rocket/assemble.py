# Ref: docs/hardware/rocket.md §4.1, §5.4 (buffers), §9 (jobs)
"""Operations to a program: command lists, buffers, addresses, jobs, ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from teflon.debug import enabled, log
from teflon.ir.graph import Graph, Value
from teflon_rocket.chips import Chip
from teflon_rocket.jobs import MakeJobs
from teflon_rocket.memory import Content, Memory
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Pack
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.program import COMMANDS, Job, Port, Reloc, RocketProgram

Arrange = Callable[[Graph, Sequence[Content], Sequence[Feature]], Memory]


@dataclass(frozen=True)
class Assembler:
    """Makes programs; strategies differ in what they hand over.

    pack: makes a command of values. arrange: who shares a buffer. jobs: which tasks make a job.
    """

    pack: Pack
    arrange: Arrange
    jobs: MakeJobs

    def program(
        self, graph: Graph, operations: Sequence[Operation], chip: Chip, strategy: str,
        parts: Sequence[Feature] = (),
    ) -> RocketProgram:  # fmt: skip
        """Return the program of a graph. Raises FieldOverflow where a value does not fit.

        parts: feature maps that are parts of others and may hold an input or output, although no
        operation names them.
        """
        if enabled("rocket-tasks"):
            for op in operations:
                log(op.text())
        contents = [Content(op, command_lists(op, self.pack)) for op in operations]
        memory = self.arrange(graph, contents, parts)
        jobs = self.jobs(contents, memory, chip)
        features = {f.value: f for f in memory.places if isinstance(f, Feature)}
        return RocketProgram(
            chip=chip.name,
            strategy=strategy,
            buffers=memory.buffers,
            relocs=tuple(reloc for content in contents for reloc in _relocs(content, memory)),
            jobs=tuple(jobs),
            input_ports=tuple(_port(value, features, memory) for value in graph.inputs),
            output_ports=tuple(_port(value, features, memory) for value in graph.outputs),
            counts={**_statistics(contents, memory, jobs), **memory.sizes},
        )


def _relocs(content: Content, memory: Memory) -> Iterator[Reloc]:
    own = memory.places[content.lists]
    for one in content.lists.lists:
        start = own.offset + one.offset
        for a in one.addresses:
            place = own if a.target is None else memory.places[a.target]
            yield Reloc(own.buffer, start + 8 * a.word, place.buffer, place.offset + a.addend)


def _port(value: Value, features: dict[Value | None, Feature], memory: Memory) -> Port:
    feature = features.get(value)
    if feature is None:  # an input that nothing reads
        return Port(value.type, 0, "unset", name=value.name)
    place = memory.places[feature]
    return Port(
        value.type,
        place.buffer,
        feature.layout,
        place.offset,
        image_pitch=feature.image_bytes,
        surface_pitch=feature.pitch,
        row_pitch=feature.row_pitch if feature.layout == "rows" else 0,
        flip=feature.flip,
        fill=feature.fill,
        name=feature.name,
    )


def _statistics(contents: Sequence[Content], memory: Memory, jobs: Sequence[Job]) -> dict[str, int]:
    operations = [content.operation for content in contents]
    constants = [b.data for b in memory.buffers if b.role != COMMANDS and b.data is not None]
    return {
        "operations": len(operations),
        "tasks": sum(op.tasks for op in operations),
        "jobs": len(jobs),
        "command_words": sum(content.lists.words for content in contents),
        "coefficient_bytes": sum(map(len, constants)),
        "bo_bytes": sum(buffer.size for buffer in memory.buffers),
        "buffers": len(memory.buffers),
        "macs": sum(op.macs for op in operations),
        "dram_bytes": sum(content.moved for content in contents),
    }
