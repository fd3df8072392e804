# Ref: docs/hardware/rocket.md §4.1, §5.4 (buffers), §9 (jobs)
"""Operations and their splits to a program: buffers in creation order, addresses, jobs, ports."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon_rocket import coefs, regcmd
from teflon_rocket.operation import Feature, Operation
from teflon_rocket.program import Buffer, Job, Port, Reloc, RocketProgram, Task
from teflon_rocket.tasks import Split


@dataclass(frozen=True)
class Unit:
    """One operation, how it is split, and the indices of its buffers."""

    op: Operation
    split: Split
    weights: int
    biases: int
    regcmd: int


PackWeights = Callable[[Array, int, bool], Array]


@dataclass(frozen=True)
class Assembler:
    """What strategies differ in when a program is put together.

    once: a buffer is named once in a job's lists.
    """

    chip: str
    strategy: str
    pack_weights: PackWeights
    emit: regcmd.Emit
    once: bool

    def program(
        self, graph: Graph, operations: Sequence[Operation], splits: Sequence[Split]
    ) -> RocketProgram:
        """Return the program of a graph. Raises FieldOverflow where a value does not fit."""
        buffers: list[Buffer] = []
        for op in operations:
            buffers += self._coefficients(op)
        places = _tensor_places(operations, len(buffers))
        buffers += [Buffer("tensor", f.size_bytes, None, f.name) for f in places]
        units: list[Unit] = []
        relocs: list[Reloc] = []
        jobs: list[Job] = []
        for number, (op, split) in enumerate(zip(operations, splits, strict=True)):
            unit = Unit(op, split, 2 * number, 2 * number + 1, len(buffers))
            units.append(unit)
            lists = regcmd.command_lists(op, split, self.emit)
            buffers.append(Buffer("regcmd", lists.nbytes, lists.tobytes(), op.name))
            relocs += _relocs(unit, places)
            jobs += self._jobs(unit, places)
        return RocketProgram(
            chip=self.chip,
            strategy=self.strategy,
            buffers=tuple(buffers),
            relocs=tuple(relocs),
            jobs=tuple(jobs),
            input_ports=_ports(graph.inputs, places),
            output_ports=_ports(graph.outputs, places),
            counts=_statistics(units, buffers, jobs),
        )

    def _coefficients(self, op: Operation) -> Iterable[Buffer]:
        packed = self.pack_weights(op.weights, op.weight_zero, op.depthwise)
        size = coefs.weights_size(op.kernels, op.taps, op.channels)
        yield Buffer("weights", size, packed.tobytes(), op.name)
        yield Buffer("biases", op.out_channels * 4, op.bias.astype("<i4").tobytes(), op.name)

    def _jobs(self, unit: Unit, places: dict[Feature, int]) -> list[Job]:
        op = unit.op
        reads = [places[op.input]]
        if op.operand is not None:
            reads.append(places[op.operand.feature])
        if self.once:
            reads = list(dict.fromkeys(reads))
        tasks = [
            Task(unit.regcmd, number * regcmd.LIST_BYTES, regcmd.WORDS)
            for number in range(len(unit.split.tiles))
        ]
        groups = [tuple(tasks)] if unit.split.together else [(task,) for task in tasks]
        return [Job(group, tuple(reads), (places[op.output],), op.name) for group in groups]


def _tensor_places(operations: Sequence[Operation], first: int) -> dict[Feature, int]:
    """Return each feature map's buffer: per operation input, output, operand, as they come up."""
    order: dict[Feature, None] = {}
    for op in operations:
        order[op.input] = order[op.output] = None
        if op.operand is not None:
            order[op.operand.feature] = None
    return {feature: first + n for n, feature in enumerate(order)}


def _relocs(unit: Unit, places: dict[Feature, int]) -> Iterable[Reloc]:
    op = unit.op
    targets = {
        "input": places[op.input],
        "output": places[op.output],
        "weights": unit.weights,
        "biases": unit.biases,
        "next": unit.regcmd,
    }
    if op.operand is not None:
        targets["operand"] = places[op.operand.feature]
    for number, found in enumerate(regcmd.addresses(op, unit.split)):
        start = number * regcmd.LIST_BYTES
        for a in found:
            yield Reloc(unit.regcmd, start + a.word * 8, targets[a.what], a.addend)


def _ports(values: Sequence[Value], places: dict[Feature, int]) -> tuple[Port, ...]:
    by_value = {f.value: f for f in places if f.value is not None}
    ports = []
    for value in values:
        feature = by_value.get(value)
        if feature is None:  # an input that nothing reads
            ports.append(Port(value.type, 0, "unset"))
            continue
        ports.append(
            Port(
                value.type,
                places[feature],
                feature.layout,
                image_pitch=feature.image_bytes,
                row_pitch=feature.row_pitch if feature.layout == "rows" else 0,
                flip=feature.flip,
                fill=feature.fill,
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
