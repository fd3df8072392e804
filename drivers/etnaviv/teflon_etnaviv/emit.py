"""From lowered operations to a program: buffers, instructions, stream, BO list.

Ref: docs/hardware/etnaviv.md sections 2.5, 2.6, 6.4, 6.5
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from teflon.ir.graph import Graph, Value
from teflon_common.program import Buffer
from teflon_etnaviv import cmdstream, exact, jobtext, nn, tp
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.layer import Layer
from teflon_etnaviv.lower import lower
from teflon_etnaviv.memory_plan import MemoryPlan, plan_places, plan_tensors
from teflon_etnaviv.operations import NN, TP, Lowered, Operation, Tensor
from teflon_etnaviv.program import (
    ADDR26_SHR6,
    ADDR32,
    READ,
    STREAM,
    WRITE,
    EtnavivProgram,
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


@dataclass
class _Emitter:
    """A program being put together."""

    chip: Chip
    plan: MemoryPlan
    exact: bool
    data: dict[int, tuple[str, bytes, str]] = field(default_factory=dict)
    relocs: list[Reloc] = field(default_factory=list)
    bos: dict[int, int] = field(default_factory=dict)
    stream: cmdstream.Stream = field(default_factory=cmdstream.Stream)
    counts: dict[str, int] = field(default_factory=dict)
    launches: list[tuple[Operation, list[int]]] = field(default_factory=list)

    def new_buffer(self, role: str, data: bytes, name: str, size: int = 0) -> int:
        number = self.plan.allocate(max(size, len(data)))
        self.data[number] = (role, data, name)
        return number

    def relocate(self, buffer: int, offset: int, tensor: Tensor, addend: int = 0) -> None:
        place = self.plan.places[tensor]
        self.relocs.append(Reloc(buffer, offset, ADDR32, place.buffer, place.offset + addend))

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + number

    def uses(self, buffer: int, flag: int) -> None:
        self.bos[buffer] = self.bos.get(buffer, 0) | flag

    def compile_nn(self, op: NN, launch: nn.Launch) -> None:
        """Create a layer's coefficients and instruction."""
        coefficients = launch.coefficients
        weights = self.new_buffer(
            "coefficients", coefficients.data, op.name, coefficients.size_bytes
        )
        config = self.new_buffer("nn_config", launch.instruction.to_bytes(), op.name)
        self.relocs.append(Reloc(config, nn.KERNEL_ADDRESS, ADDR26_SHR6, weights))
        self.relocate(config, nn.INPUT_ADDRESS, op.inputs[0])
        self.relocate(config, nn.OUTPUT_ADDRESS, op.outputs[0])
        self.launches.append((op, [config, weights]))
        self.count("coefficient_bytes", len(coefficients.data))

    def compile_tp(self, op: TP) -> None:
        """Create an operation's lookup table and the instructions of its jobs."""
        compiled = tp.compile_operation(op, self.chip)
        table = None
        if compiled.table is not None:
            table = self.new_buffer("lut", compiled.table, op.name)
        configs = []
        for job in compiled.jobs:
            config = self.new_buffer("tp_config", job.instruction.to_bytes(), op.name)
            self.relocate(config, tp.INPUT_ADDRESS, op.inputs[0], job.input_offset)
            self.relocate(config, tp.OUTPUT_ADDRESS, op.outputs[0], job.output_offset)
            if table is not None:
                self.relocs.append(Reloc(config, tp.LUT_ADDRESS, ADDR32, table))
            configs.append(config)
        self.launches.append((op, configs + ([table] if table is not None else [])))

    def emit(self) -> None:
        """Write the stream and collect the BO list; both stay empty where there is no work."""
        if not self.launches:
            return
        self.stream = cmdstream.begin()
        for op, buffers in self.launches:
            for buffer in buffers:
                self.uses(buffer, READ)
            self.uses(self.plan.places[op.inputs[0]].buffer, READ)
            self.uses(self.plan.places[op.outputs[0]].buffer, WRITE)
            if isinstance(op, NN):
                cmdstream.emit_nn(self.stream, buffers[0])
                self.count("tasks")
            elif isinstance(op, TP):
                configs = [b for b in buffers if self.data[b][0] == "tp_config"]
                cores = len(configs) if self.exact else self.chip.tp_core_count
                cmdstream.emit_tp(self.stream, configs, cores, marks=op.kind in _MARKING)
                self.count("tasks", len(configs))
        cmdstream.finish(self.stream)
        for offset, buffer, low_bits in self.stream.addresses:
            self.relocs.append(Reloc(STREAM, offset, ADDR32, buffer, low_bits))

    def buffers(self) -> tuple[Buffer, ...]:
        """Return all buffers in creation order."""
        names: dict[int, str] = {}
        for tensor, place in self.plan.places.items():
            names.setdefault(place.buffer, tensor.name)
        result = []
        for number, size in enumerate(self.plan.sizes):
            role, data, name = self.data.get(number, ("tensor", None, names.get(number, "unused")))
            result.append(Buffer(role, size, data, name))
        return tuple(result)


def _port(value: Value, tensor: Tensor, plan: MemoryPlan, *, at_start: bool) -> Port:
    place = plan.places[tensor]
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

    with ThreadPoolExecutor(min(len(layers), os.cpu_count() or 1) or 1) as pool:
        yield from pool.map(compile_, layers)


def build(graph: Graph, lowered: Lowered, chip: Chip, strategy: str) -> EtnavivProgram:
    """Return the program of a lowered partition.

    Raises EncodingError (FieldOverflow among them) for what the hardware cannot express.
    """
    jobtext.show(lowered)
    is_exact = strategy == EXACT
    plan = plan_places(lowered) if is_exact else plan_tensors(lowered.operations)
    emitter = _Emitter(chip, plan, is_exact)
    launches = _launches(lowered, chip, is_exact)
    for op in lowered.operations:
        if isinstance(op, NN):
            emitter.compile_nn(op, next(launches))
        elif isinstance(op, TP):
            emitter.compile_tp(op)
    emitter.emit()
    buffers = emitter.buffers()
    emitter.counts |= {
        "jobs": 1,
        "operations": len(graph.ops),
        "command_words": len(emitter.stream.words),
        "bo_bytes": sum(b.size for b in buffers),
        "macs": sum(op.macs for op in graph.ops),
    }
    inputs = zip(graph.inputs, lowered.inputs, strict=True)
    outputs = zip(graph.outputs, lowered.outputs, strict=True)
    return EtnavivProgram(
        chip=chip.name,
        strategy=strategy,
        buffers=buffers,
        stream=emitter.stream.to_bytes(),
        relocs=tuple(emitter.relocs),
        bos=tuple(emitter.bos.items()),
        input_ports=tuple(_port(v, t, plan, at_start=False) for v, t in inputs),
        output_ports=tuple(_port(v, t, plan, at_start=not is_exact) for v, t in outputs),
        counts=emitter.counts,
    )


def compile_graph(graph: Graph, chip: Chip, strategy: str = EXACT) -> EtnavivProgram:
    """Compile a partition. Raises EncodingError, UnsupportedOperation."""
    if strategy != EXACT:
        return build(graph, lower(graph, chip), chip, strategy)
    fitted = dataclasses.replace(chip, tp_core_count=chip.tp_jobs)  # B20
    return build(graph, exact.lower(graph, fitted), fitted, strategy)
