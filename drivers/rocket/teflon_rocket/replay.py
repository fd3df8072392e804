"""Run a recorded program again, on a kernel in this process, and take the tensors out.

Buffers get the recorded addresses and contents, jobs are submitted as recorded. Where tensors lie
is known from the recording's own `ports`, or, for a recording of Mesa, worked out from its list of
operations and the command lists.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import RecordingError
from teflon.ir.types import Array, DType, TensorType
from teflon_common.drm import GEM_CLOSE, GemClose, call
from teflon_common.fake_drm import FakeKernel, FakeWinsys, pages
from teflon_common.recording import Recording, misfit
from teflon_common.recording_tensors import recorded_port, seeded_inputs, tensor_type
from teflon_rocket import uapi
from teflon_rocket.dialect import RocketDialect
from teflon_rocket.program import PORTS, Port
from teflon_rocket.registers import CNA, DPU
from teflon_rocket.text.commands import decode

# Ref: docs/hardware/rocket.md §4.1 (how Mesa converts inputs and outputs), §5.3 (ADD), §6

Bytes = npt.NDArray[np.uint8]

FLIP = 0x80
"""Mesa stores every value less 128, whatever its type."""

ONE_CHANNEL = 8
"""CONV_CON1.ARGB_IN of one-channel features: rows of bytes instead of surfaces."""


@dataclass
class Replayed:
    """What a replay wrote: tensors by name, and the content of every written buffer."""

    tensors: dict[str, Array] = field(default_factory=dict)
    buffers: dict[tuple[int, int], Bytes] = field(default_factory=dict)  # (submit, handle)
    complaints: list[str] = field(default_factory=list)
    after: dict[str, Array] = field(default_factory=dict)
    """Buffers whose content after a submit is recorded as well, by its name in the recording."""

    def everything(self) -> dict[str, Array]:
        """Return the tensors and those buffers."""
        return self.tensors | self.after


@dataclass(frozen=True)
class Place:
    """A tensor that a submit reads or writes."""

    name: str
    port: Port
    written: bool


def replay(
    recording: Recording,
    kernel: FakeKernel,
    inputs: Mapping[str, Array] | None = None,
    types: Mapping[int, tuple[str, TensorType]] | None = None,
) -> Replayed:
    """Run every submit of a recording.

    inputs: arrays by name, which replace the recorded ones. types: name and type, by index in the
    model's file, of tensors between operations, which a recording does not describe; they are
    taken out as well. Raises RecordingError, SimulatorFault.
    """
    if recording.driver != "rocket":
        raise RecordingError(f"{recording.name}: driver is {recording.driver!r}, must be 'rocket'")
    if not recording.submits:
        raise RecordingError(
            f"{recording.name}: nothing was submitted, must have a SUBMIT (the recorded program "
            f"ended with {recording.meta['status']})"
        )
    ends = recording.meta["inputs"] + recording.meta["outputs"]
    known = {tensor["index"]: (tensor["name"], tensor_type(tensor)) for tensor in ends}
    run = _Run(recording, kernel, {**known, **(types or {})}, dict(inputs or {}))
    for number, entry in enumerate(recording.log):
        try:
            run.step(entry)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise misfit(recording, f"log[{number}], {entry['ioctl']},", error) from error
    run.winsys.close()
    if unknown := set(inputs or {}) - run.stored:
        raise RecordingError(
            f"{recording.name}: input {sorted(unknown)[0]!r} is not one of this recording, must be "
            f"one of {', '.join(sorted(run.inputs)) or 'none'}"
        )
    run.result.complaints += kernel.complaints
    return run.result


class _Run:
    def __init__(
        self,
        recording: Recording,
        kernel: FakeKernel,
        types: Mapping[int, tuple[str, TensorType]],
        given: Mapping[str, Array],
    ) -> None:
        self.recording, self.kernel, self.types = recording, kernel, types
        self.winsys = FakeWinsys(kernel)
        self.result = Replayed()
        self.inputs: set[str] = set()
        self.stored: set[str] = set()
        self._given, self._seeded = given, seeded_inputs(recording)
        self._made: dict[int, uapi.CreateBo] = {}
        self._memory: dict[int, Bytes] = {}

    def step(self, entry: Mapping[str, Any]) -> None:
        """Repeat one request of the log; waits and flushes are part of repeating a submit."""
        if entry.get("errno"):
            return
        if entry["ioctl"] == "CREATE_BO":
            self.kernel.place_next(entry["dma_address"])
            wanted = uapi.CreateBo(size=entry["size"])
            made = call(self.winsys, uapi.ROCKET, uapi.CREATE_BO, wanted)
            view = self.winsys.mmap(made.offset, pages(made.size))
            self._made[entry["handle"]] = made
            self._memory[entry["handle"]] = np.frombuffer(view, np.uint8)
        elif entry["ioctl"] == "GEM_CLOSE":
            handle = self._made.pop(entry["handle"]).handle
            call(self.winsys, uapi.ROCKET, GEM_CLOSE, GemClose(handle=handle))
        elif entry["ioctl"] == "SUBMIT":
            self._submit(entry)

    def _submit(self, entry: Mapping[str, Any]) -> None:
        number = entry["submit"]
        places = list(_places(self.recording, entry, self.types))
        self._fill(number, places)
        lists = [
            uapi.JobLists(
                tuple((address, count) for address, count in job["tasks"]),
                tuple(self._made[handle].handle for handle in job["in"]),
                tuple(self._made[handle].handle for handle in job["out"]),
            )
            for job in entry["jobs"]
        ]
        arguments = uapi.submit_arguments(lists)
        call(self.winsys, uapi.ROCKET, uapi.SUBMIT, arguments.submit)
        for handle in dict.fromkeys(h for job in entry["jobs"] for h in job["out"]):
            wait = uapi.PrepBo(handle=self._made[handle].handle, timeout_ns=uapi.FOREVER)
            call(self.winsys, uapi.ROCKET, uapi.PREP_BO, wait)
            self.result.buffers[number, handle] = self._memory[handle].copy()
            if (kept := self.recording.arrays.get(f"after_{handle}_{number}")) is not None:
                content = self._memory[handle][: kept.size].copy()
                self.result.after[f"after_{handle}_{number}"] = content
        for place in places:
            if place.written:
                memory = self._memory[place.port.buffer]
                self.result.tensors[place.name] = place.port.fetch(memory)

    def _fill(self, number: int, places: Sequence[Place]) -> None:
        """Give every buffer what it held when this submit was issued."""
        kept = set()
        for handle, memory in self._memory.items():
            key = self.recording.key(handle, number)
            if key == f"bo_{handle}_{number}":
                kept.add(handle)
                data = self.recording.arrays[key][: len(memory)]
                memory[: len(data)] = data
        for place in places:
            if place.written:
                continue
            self.inputs.add(place.name)
            array = self._given.get(place.name)
            if array is not None:
                self.stored.add(place.name)
                _check(place, array)
            elif place.port.buffer not in kept:
                array = self._seeded.get(place.name)
            if array is not None:
                place.port.store(array, self._memory[place.port.buffer])


def _check(place: Place, array: Array) -> None:
    wanted = place.port.type
    if array.shape != wanted.shape or array.dtype != wanted.dtype.numpy:
        raise RecordingError(
            f"input {place.name!r} is {array.dtype}{list(array.shape)}, must be "
            f"{wanted.dtype.numpy}{list(wanted.shape)}"
        )


def _places(
    recording: Recording,
    entry: Mapping[str, Any],
    types: Mapping[int, tuple[str, TensorType]],
) -> Iterator[Place]:
    """Yield the tensors of a submit that can be put in or taken out."""
    if own := recording.meta.get("ports"):
        yield from _own_places(own, entry, recording)
    partitions = recording.meta.get("teflon_partitions") or []
    if own or entry["submit"] >= len(partitions):
        return
    partition = partitions[entry["submit"]]
    sums = {op["inputs"][0]: op for op in partition if op["op"] == "ADD"}
    hosts = [op for op in partition if op["op"] != "ADD"]
    read = {index for op in partition for index in op["inputs"]}
    written: set[int] = set()
    for op, operation in zip(hosts, _operations(recording, entry), strict=True):
        output, sources = op["outputs"][0], {op["inputs"][0]: operation.input_port}
        if operation.addition is not None:
            output, (_, second) = sums[output]["outputs"][0], sums[output]["inputs"]
            sources.setdefault(second, operation.operand_port)
        for index, port in sources.items():
            if index in types and index not in written:
                yield Place(types[index][0], port(types[index][1]), False)
        written.add(output)
        if output in types or output not in read:
            name, kind = types.get(output) or (f"tensor {output}", operation.output_type())
            yield Place(name, operation.output_port(kind), True)


def _own_places(
    ports: Sequence[Mapping[str, Any]], entry: Mapping[str, Any], recording: Recording
) -> Iterator[Place]:
    handles = {h for job in entry["jobs"] for h in (*job["in"], *job["out"])}
    for port in ports:
        if port["handle"] in handles:
            place = recorded_port(PORTS, port, recording)
            yield Place(port["name"], place, port["kind"] == "output")


@dataclass(frozen=True)
class _Operation:
    """The tasks of one command buffer: registers of the first one, and its buffers."""

    registers: Mapping[str, Any]
    input: int
    output: int
    addition: int | None

    def output_type(self) -> TensorType:
        """Return what the registers say of the output: Mesa's width is the outer axis."""
        outer = self.registers["DATA_CUBE_WIDTH"].WIDTH
        inner = self.registers["DST_SURF_STRIDE"].DST_SURF_STRIDE // outer
        channels = self.registers["DATA_CUBE_CHANNEL"].ORIG_CHANNEL
        return TensorType(DType.UINT8, (1, outer, inner, channels))

    def output_port(self, kind: TensorType) -> Port:
        """Return how Mesa lays out the output of this operation."""
        return _surfaces(kind, self.output)

    def operand_port(self, kind: TensorType) -> Port:
        """Return how Mesa lays out what is added."""
        assert self.addition is not None
        return _surfaces(kind, self.addition)

    def input_port(self, kind: TensorType) -> Port:
        """Return how Mesa lays out the input of this operation."""
        one = self.registers["CONV_CON1"].ARGB_IN == ONE_CHANNEL
        if not one:
            return _surfaces(kind, self.input)
        if self.registers["DATA_CUBE_CHANNEL"].ORIG_CHANNEL == 1 and self.addition is None:
            return Port(kind, self.input, "unset")  # Mesa never uploads it
        pitch = self.registers["DMA_CON1"].LINE_STRIDE
        return Port(kind, self.input, "rows", row_pitch=pitch, fill=kind.zero_point & 0xFF)


def _surfaces(kind: TensorType, handle: int) -> Port:
    return Port(kind, handle, "surfaces", flip=FLIP, fill=(kind.zero_point - FLIP) & 0xFF)


def _operations(recording: Recording, entry: Mapping[str, Any]) -> Iterator[_Operation]:
    dialect, seen = RocketDialect(), set[int]()
    for address, size in dialect.commands(entry):
        place = recording.find(address)
        data = recording.commands(entry["submit"], address, size)
        if place is None or place[0] in seen:
            continue
        seen.add(place[0])
        names = {
            CNA.CONV_CON1, CNA.DMA_CON1, DPU.DATA_CUBE_CHANNEL, DPU.DATA_CUBE_WIDTH,
            DPU.DST_SURF_STRIDE,
        }  # fmt: skip
        registers = {
            type(command.register).__name__: command.register
            for command in decode(data)
            if type(command.register) in names
        }
        found = {
            pointer.role: target[0]
            for pointer in dialect.pointers(np.frombuffer(data, np.uint8))
            if (target := recording.find(pointer.address))
        }
        yield _Operation(registers, found["input"], found["output"], found.get("rdma_src"))
