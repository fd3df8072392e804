# Ref: docs/hardware/rocket.md §4.1, §5.4 (buffers), §9 (jobs)
"""Operations and their splits to a program: buffers in creation order, addresses, jobs, ports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon_common.program import Buffer
from teflon_rocket import regcmd, tasktext
from teflon_rocket.chips import RK3588
from teflon_rocket.operation import Feature, Operation
from teflon_rocket.pack import Content, Memory, Place, apart, features
from teflon_rocket.program import Job, Port, Reloc, RocketProgram, Task
from teflon_rocket.tasks import Split

JOB_SECONDS = 0.1
"""Work of one job, in the worst case; the kernel resets the core after 0.5 (§1.6)."""

_SLOW_BYTES = 1e9  # of memory each second, while others use it as well
_SLOW_MACS = RK3588.macs_per_cycle * RK3588.clock_hz / 16  # a 16th of the array at work
_SLOW_TASK = 1e-4  # interrupt, thread, start of the next task


@dataclass(frozen=True)
class Unit:
    """One operation, how it is split, and where its constants and lists lie."""

    op: Operation
    split: Split
    weights: Place
    biases: Place
    lists: Place


PackWeights = Callable[[Array, int, bool], Array]
Arrange = Callable[[Graph, Sequence[Content]], Memory]


@dataclass(frozen=True)
class Assembler:
    """What strategies differ in when a program is put together.

    once: a buffer is named once in a job's lists. arrange: who shares a buffer. chained: as many
    operations in a job as its time allows, else a job or several for each operation, as Mesa does.
    """

    chip: str
    strategy: str
    pack_weights: PackWeights
    emit: regcmd.Emit
    once: bool
    arrange: Arrange = apart
    chained: bool = False

    def program(
        self, graph: Graph, operations: Sequence[Operation], splits: Sequence[Split]
    ) -> RocketProgram:
        """Return the program of a graph. Raises FieldOverflow where a value does not fit."""
        pairs = list(zip(operations, splits, strict=True))
        memory = self.arrange(graph, [self._content(op, split) for op, split in pairs])
        where = zip(pairs, memory.weights, memory.biases, memory.lists, strict=True)
        units = [Unit(*pair, w, b, lists) for pair, w, b, lists in where]
        if self.chained:
            jobs = chain(units, memory)
        else:
            jobs = [job for unit in units for job in self._jobs(unit, memory.tensors)]
        return RocketProgram(
            chip=self.chip,
            strategy=self.strategy,
            buffers=memory.buffers,
            relocs=tuple(reloc for unit in units for reloc in _relocs(unit, memory.tensors)),
            jobs=tuple(jobs),
            input_ports=_ports(graph.inputs, memory.tensors),
            output_ports=_ports(graph.outputs, memory.tensors),
            counts={**_statistics(units, memory.buffers, jobs), **memory.sizes},
        )

    def _content(self, op: Operation, split: Split) -> Content:
        tasktext.show(op, split)
        packed = self.pack_weights(op.weights, op.weight_zero, op.depthwise)
        return Content(op, packed, regcmd.command_lists(op, split, self.emit))

    def _jobs(self, unit: Unit, places: dict[Feature, Place]) -> list[Job]:
        """Return an operation's jobs: one, or one for each task where weights are loaded again."""
        op = unit.op
        reads = [places[op.input].buffer]
        if op.operand is not None:
            reads.append(places[op.operand.feature].buffer)
        if self.once:
            reads = list(dict.fromkeys(reads))
        writes = (places[op.output].buffer,)
        tasks = _tasks(unit)
        groups = [tuple(tasks)] if unit.split.together else [(task,) for task in tasks]
        return [
            Job(group, tuple(reads), writes, op.name, ((op.name, len(group)),)) for group in groups
        ]


def chain(units: Sequence[Unit], memory: Memory) -> list[Job]:
    """Return as few jobs as the kernel's time limit allows.

    Tasks of a job run in order on one core, so what one writes the next may read. Everything that
    is used is listed: a job keeps only those buffers alive which it names, and one that it writes
    must not be among those that it reads.
    """
    jobs: list[Job] = []
    for group in _timed(units):
        tasks = [task for unit in group for task in _tasks(unit)]
        writes = dict.fromkeys(memory.tensors[unit.op.output].buffer for unit in group)
        used = (
            place.buffer
            for unit in group
            for place in (
                unit.weights, unit.biases, unit.lists,
                *(memory.tensors[feature] for feature in features([unit.op])),
            )
        )  # fmt: skip
        reads = [buffer for buffer in dict.fromkeys(used) if buffer not in writes]
        name = f"{group[0].op.name} to {group[-1].op.name}" if group[1:] else group[0].op.name
        operations = tuple((unit.op.name, len(_tasks(unit))) for unit in group)
        jobs.append(Job(tuple(tasks), tuple(reads), tuple(writes), name, operations))
    return jobs


def _timed(units: Sequence[Unit]) -> list[list[Unit]]:
    """Return the operations in groups that are done long before the kernel gives up."""
    groups: list[list[Unit]] = []
    left = 0.0
    for unit in units:
        seconds = slowest_seconds(unit.op.macs, _moved(unit), len(unit.split.tiles))
        if not groups or seconds > left:
            groups.append([])
            left = JOB_SECONDS
        groups[-1].append(unit)
        left -= seconds
    return groups


def slowest_seconds(macs: int, moved: int, tasks: int) -> float:
    """Return a bound on the time of some tasks; far from an estimate."""
    return macs / _SLOW_MACS + moved / _SLOW_BYTES + tasks * _SLOW_TASK


def _tasks(unit: Unit) -> list[Task]:
    place = unit.lists
    return [
        Task(place.buffer, place.offset + number * regcmd.LIST_BYTES, regcmd.WORDS)
        for number in range(len(unit.split.tiles))
    ]


def _relocs(unit: Unit, places: dict[Feature, Place]) -> Iterable[Reloc]:
    op, lists = unit.op, unit.lists
    targets = {
        "input": places[op.input],
        "output": places[op.output],
        "weights": unit.weights,
        "biases": unit.biases,
        "next": lists,
    }
    if op.operand is not None:
        targets["operand"] = places[op.operand.feature]
    for number, found in enumerate(regcmd.addresses(op, unit.split)):
        start = lists.offset + number * regcmd.LIST_BYTES
        for a in found:
            target = targets[a.what]
            yield Reloc(lists.buffer, start + a.word * 8, target.buffer, target.offset + a.addend)


def _ports(values: Sequence[Value], places: dict[Feature, Place]) -> tuple[Port, ...]:
    by_value = {f.value: f for f in places if f.value is not None}
    ports = []
    for value in values:
        feature = by_value.get(value)
        if feature is None:  # an input that nothing reads
            ports.append(Port(value.type, 0, "unset", name=value.name))
            continue
        ports.append(
            Port(
                value.type,
                places[feature].buffer,
                feature.layout,
                places[feature].offset,
                image_pitch=feature.image_bytes,
                row_pitch=feature.row_pitch if feature.layout == "rows" else 0,
                flip=feature.flip,
                fill=feature.fill,
                name=feature.name,
            )
        )
    return tuple(ports)


def _statistics(
    units: Sequence[Unit], buffers: Sequence[Buffer], jobs: Sequence[Job]
) -> dict[str, int]:
    roles: Counter[str] = Counter()
    for buffer in buffers:
        roles[buffer.role] += len(buffer.data) if buffer.data is not None else 0
    tasks = sum(len(u.split.tiles) for u in units)
    return {
        "operations": len(units),
        "tasks": tasks,
        "jobs": len(jobs),
        "command_words": tasks * regcmd.WORDS,
        "coefficient_bytes": roles["weights"] + roles["biases"],
        "bo_bytes": sum(b.size for b in buffers),
        "buffers": len(buffers),
        "macs": sum(u.op.macs for u in units),
        "dram_bytes": sum(_moved(u) for u in units),
    }


def _moved(unit: Unit) -> int:
    """Bytes that an operation's tasks read and write in memory."""
    op, split = unit.op, unit.split
    loads = 1 if split.reuse else len(split.tiles)
    moved = len(split.tiles) * (regcmd.WORDS * 8 + op.out_channels * 4) + loads * op.weight_bytes
    atom = 1 if op.row_input else op.padded_channels
    written = op.padded_out_channels * (1 if op.operand is None else 2)
    for tile in split.tiles:
        moved += tile.rows * tile.columns * atom
        moved += math.prod((tile.out_rows, tile.out_columns, written))
    return moved
