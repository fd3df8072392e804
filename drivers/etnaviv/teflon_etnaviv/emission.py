"""From lowered operations to a program: buffers, instructions, stream, BO list.

Ref: docs/hardware/etnaviv.md sections 2.5, 2.6, 6.4, 6.5
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from teflon import workers
from teflon.errors import EncodingError
from teflon.ir.graph import Graph, Value
from teflon_etnaviv import cmdstream, jobs_text
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.memory import Memory, Pack, Packed, Place
from teflon_etnaviv.operations import Compiled, Lowered, Work
from teflon_etnaviv.program import (
    ADDR32,
    READ,
    STREAM,
    WRITE,
    EtnavivProgram,
    Launch,
    Port,
    Reloc,
)
from teflon_etnaviv.tensors import Tensor


def build(graph: Graph, lowered: Lowered, chip: Chip, strategy: str, pack: Pack) -> EtnavivProgram:
    """Return the program of a lowered partition.

    Raises EncodingError (FieldOverflow among them) for what the hardware cannot express.
    """
    jobs_text.show(lowered)
    memory = pack(lowered, compiled(lowered.work, chip))
    launched = tuple(_launched(memory))
    stream = _stream(memory)
    relocs = [
        *_relocs(memory),
        *(Reloc(STREAM, at, ADDR32, buffer, addend) for at, buffer, addend in stream.addresses),
    ]
    return EtnavivProgram(
        chip=chip.name,
        strategy=strategy,
        buffers=memory.buffers,
        stream=stream.to_bytes(),
        relocs=tuple(relocs),
        bos=tuple(_bos(memory).items()),
        instructions=launched,
        input_ports=_ports(graph.inputs, lowered, lowered.inputs, memory.inputs),
        output_ports=_ports(graph.outputs, lowered, lowered.outputs, memory.outputs),
        counts=_counts(graph, launched, stream, memory),
        grouped=lowered.grouped,
    )


def compiled(work: Sequence[Work], chip: Chip) -> list[tuple[Work, Compiled]]:
    """Return what each operation brings along.

    Several are compiled at a time: the encoders in C hold no lock of the interpreter. Raises the
    EncodingError of the first operation that has one.
    """
    waiting = deque(enumerate(work))
    found: dict[int, Compiled] = {}
    failed: dict[int, EncodingError] = {}

    def some(_worker: int) -> None:
        while True:
            try:
                number, op = waiting.popleft()
            except IndexError:
                return
            try:
                found[number] = op.compile(chip)
            except EncodingError as error:
                failed[number] = error

    workers.shared(some, range(min(workers.COUNT, len(work))))
    if failed:
        raise failed[min(failed)]
    return [(op, found[number]) for number, op in enumerate(work)]


def _places(packed: Packed) -> list[tuple[int, int]]:
    return [(place.buffer, place.offset) for place in packed.instructions]


def _relocs(memory: Memory) -> Iterator[Reloc]:
    """Yield where instructions hold addresses."""
    for packed in memory.operations:
        engine, constants = packed.op.engine, packed.constants
        source = memory.tensors[packed.op.inputs[0]]
        target = memory.tensors[packed.op.outputs[0]]
        for (buffer, at), job in zip(_places(packed), packed.compiled.jobs, strict=True):
            goals = [
                (engine.input, source.buffer, source.offset + job.input_offset),
                (engine.output, target.buffer, target.offset + job.output_offset),
            ]
            if constants is not None:
                goals.append((engine.constants, constants.buffer, constants.offset))
            for address, goal, addend in goals:
                yield Reloc(buffer, at + address.offset, address.kind, goal, addend)


def _stream(memory: Memory) -> cmdstream.Stream:
    """Return the command stream; empty where there is no work."""
    if not memory.operations:
        return cmdstream.Stream()
    stream = cmdstream.begin()
    for packed in memory.operations:
        packed.op.start(stream, _places(packed))
    cmdstream.finish(stream)
    return stream


def _bos(memory: Memory) -> dict[int, int]:
    """Return the buffers that a submit lists, with their flags, in the order of their first use."""
    found: dict[int, int] = {}
    for packed in memory.operations:
        code = [place.buffer for place in packed.instructions]
        data = [] if packed.constants is None else [packed.constants.buffer]
        for buffer in (*code, *data, memory.tensors[packed.op.inputs[0]].buffer):
            found[buffer] = found.get(buffer, 0) | READ
        target = memory.tensors[packed.op.outputs[0]].buffer
        found[target] = found.get(target, 0) | WRITE
    return found


def _launched(memory: Memory) -> Iterator[Launch]:
    """Yield what the stream starts."""
    for packed in memory.operations:
        for place in packed.instructions:
            yield Launch(packed.op.name, place.buffer, place.offset, packed.compiled.coded)


def _ports(
    values: Sequence[Value], lowered: Lowered, tensors: Sequence[Tensor], places: Sequence[Place]
) -> tuple[Port, ...]:
    return tuple(
        Port(
            value.type,
            place.buffer,
            place.offset,
            128 * tensor.signed,
            value.name,
            lowered.orders.get(tensor, ()),
        )
        for value, tensor, place in zip(values, tensors, places, strict=True)
    )


def _counts(
    graph: Graph, launched: Sequence[Launch], stream: cmdstream.Stream, memory: Memory
) -> dict[str, int]:
    return {
        "tasks": len(launched),
        "jobs": 1,
        "operations": len(graph.ops),
        "command_words": len(stream.words),
        "coefficient_bytes": sum(launch.coded for launch in launched),
        "bo_bytes": sum(b.size for b in memory.buffers),
        "macs": sum(op.macs for op in graph.ops),
        **memory.sizes,
    }
