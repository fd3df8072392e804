"""From lowered operations to a program: buffers, instructions, stream, BO list.

Ref: docs/hardware/etnaviv.md sections 2.5, 2.6, 6.4, 6.5
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from teflon.ir.graph import Graph, Value
from teflon_etnaviv import cmdstream, exact, jobtext, nn, tp
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.layer import Layer
from teflon_etnaviv.lower import lower
from teflon_etnaviv.operations import NN, TP, Lowered, Operation, Tensor
from teflon_etnaviv.pack import Content, Memory, Packed, apart, together
from teflon_etnaviv.program import (
    ADDR26_SHR6,
    ADDR32,
    READ,
    STREAM,
    WRITE,
    EtnavivProgram,
    Launch,
    Port,
    Reloc,
)

MESA, EXACT = "mesa", "exact"
STRATEGIES = (EXACT, MESA)

_MARKING = (
    tp.PAD,
    tp.RELU,
    tp.ABS,
    tp.REQUANTISE,
)  # not LOGISTIC, though it shares their code in Mesa


def _content(op: Operation, launches: Iterator[nn.Launch], chip: Chip) -> Content | None:
    """Return what an operation brings along; None for one without work."""
    if isinstance(op, NN):
        launch = next(launches)
        made = launch.coefficients
        instruction = launch.instruction.to_bytes()
        return Content(op, (instruction,), ((0, 0),), made.data, made.size_bytes)
    if isinstance(op, TP):
        compiled = tp.compile_operation(op, chip)
        code = tuple(job.instruction.to_bytes() for job in compiled.jobs)
        offsets = tuple((job.input_offset, job.output_offset) for job in compiled.jobs)
        return Content(op, code, offsets, compiled.table)
    return None


def _relocs(memory: Memory) -> Iterator[Reloc]:
    """Yield where instructions hold addresses."""
    for packed in memory.operations:
        source = memory.tensors[packed.op.inputs[0]]
        target = memory.tensors[packed.op.outputs[0]]
        fields = (tp.INPUT_ADDRESS, tp.OUTPUT_ADDRESS, tp.LUT_ADDRESS, ADDR32)
        if isinstance(packed.op, NN):
            fields = (nn.INPUT_ADDRESS, nn.OUTPUT_ADDRESS, nn.KERNEL_ADDRESS, ADDR26_SHR6)
        reads, writes, looks_up, kind = fields
        constants = packed.constants
        for (buffer, at), (first, second) in zip(_where(packed), packed.offsets, strict=True):
            yield Reloc(buffer, at + reads, ADDR32, source.buffer, source.offset + first)
            yield Reloc(buffer, at + writes, ADDR32, target.buffer, target.offset + second)
            if constants is not None:
                yield Reloc(buffer, at + looks_up, kind, constants.buffer, constants.offset)


def _where(packed: Packed) -> list[tuple[int, int]]:
    return [(place.buffer, place.offset) for place in packed.instructions]


def _stream(memory: Memory, chip: Chip, is_exact: bool) -> cmdstream.Stream:
    """Return the command stream; empty where there is no work."""
    if not memory.operations:
        return cmdstream.Stream()
    stream = cmdstream.begin()
    for packed in memory.operations:
        places = _where(packed)
        if isinstance(packed.op, NN):
            cmdstream.emit_nn(stream, places[0])
        else:
            cores = len(places) if is_exact else chip.tp_core_count
            cmdstream.emit_tp(stream, places, cores, marks=packed.op.kind in _MARKING)
    cmdstream.finish(stream)
    return stream


def _bos(memory: Memory) -> dict[int, int]:
    """Return the buffers that a submit lists, with their flags, as they come up."""
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
        coded = 0
        if isinstance(packed.op, NN) and packed.constants is not None:
            coded = packed.constants.size
        for place in packed.instructions:
            yield Launch(packed.op.name, place.buffer, place.offset, coded)


def _port(value: Value, tensor: Tensor, memory: Memory, *, at_start: bool) -> Port:
    place = memory.tensors[tensor]
    offset = 0 if at_start else place.offset
    return Port(value.type, place.buffer, offset, 128 * tensor.signed, value.name)


def _launches(lowered: Lowered, chip: Chip, is_exact: bool) -> Iterator[nn.Launch]:
    """Yield the layers' instructions and coefficients in order.

    Several are compiled at a time: the encoders in C hold no lock of the interpreter.
    """
    layers = [op.layer for op in lowered.operations if isinstance(op, NN)]

    def compile_(layer: Layer | None) -> nn.Launch:
        assert layer is not None, "lowering gives every NN operation its layer"
        return nn.compile_layer(layer, chip, exact=is_exact)

    if len(layers) < 2:  # threads would only cost
        yield from map(compile_, layers)
        return
    with ThreadPoolExecutor(min(len(layers), os.cpu_count() or 1)) as pool:
        yield from pool.map(compile_, layers)


def build(
    graph: Graph, lowered: Lowered, chip: Chip, strategy: str, shares: bool = True
) -> EtnavivProgram:
    """Return the program of a lowered partition.

    shares: strategy exact puts tensors that live at different times into the same bytes.

    Raises EncodingError (FieldOverflow among them) for what the hardware cannot express.
    """
    jobtext.show(lowered)
    is_exact = strategy == EXACT
    layers = _launches(lowered, chip, is_exact)
    found = (_content(op, layers, chip) for op in lowered.operations)
    contents = (content for content in found if content is not None)
    pack = partial(together, chip=chip, shares=shares) if is_exact else apart
    memory = pack(lowered, contents)
    launched = tuple(_launched(memory))
    stream = _stream(memory, chip, is_exact)
    relocs = [
        *_relocs(memory),
        *(Reloc(STREAM, at, ADDR32, buffer, addend) for at, buffer, addend in stream.addresses),
    ]
    inputs = zip(graph.inputs, lowered.inputs, strict=True)
    outputs = zip(graph.outputs, lowered.outputs, strict=True)
    return EtnavivProgram(
        chip=chip.name,
        strategy=strategy,
        buffers=memory.buffers,
        stream=stream.to_bytes(),
        relocs=tuple(relocs),
        bos=tuple(_bos(memory).items()),
        instructions=launched,
        input_ports=tuple(_port(v, t, memory, at_start=False) for v, t in inputs),
        output_ports=tuple(_port(v, t, memory, at_start=not is_exact) for v, t in outputs),
        counts=_counts(graph, launched, stream, memory),
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


def compile_graph(
    graph: Graph, chip: Chip, strategy: str = EXACT, shares: bool = True
) -> EtnavivProgram:
    """Compile a partition; `shares` as in `build`. Raises EncodingError, UnsupportedOperation."""
    if strategy != EXACT:
        return build(graph, lower(graph, chip), chip, strategy)
    fitted = dataclasses.replace(chip, tp_core_count=chip.tp_jobs)  # B20
    return build(graph, exact.lower(graph, fitted), fitted, strategy, shares)
