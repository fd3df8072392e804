"""Run a recorded program again on a simulated NPU and take the tensors out.

Buffers get the addresses and the content that they had. A recording of this driver says where
tensors lie (`ports`). In a recording of Mesa a tensor is found where only one buffer can be meant.
Any other buffer that a submit wrote without reading it is returned as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from teflon.errors import DriverUnavailable, OptionError, RecordingError
from teflon.ir.types import Array
from teflon_common.memory import DeviceMemory
from teflon_common.recording import Recording, misfit
from teflon_common.recording_tensors import recorded_port, seeded_inputs, tensor_type
from teflon_etnaviv import uapi
from teflon_etnaviv.chips import Chip, Identity, identify
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.program import PORTS, READ, WRITE, Port

Bytes = npt.NDArray[np.uint8]
Run = Callable[[Chip, DeviceMemory, bytes, Mapping[int, int], str], None]
"""Executes a stream on a chip: (chip, memory, stream, flags by device address, where)."""

_DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError)
_IDENTITY = (uapi.PARAM_MODEL, uapi.PARAM_REVISION, uapi.PARAM_PRODUCT, uapi.PARAM_CUSTOMER,
             uapi.PARAM_ECO)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A tensor that a submit reads or writes."""

    name: str
    port: Port
    written: bool


@dataclass
class Buffers:
    """The buffers of a recorded program, by handle, filled submit by submit."""

    recording: Recording
    memory: dict[int, Bytes] = field(default_factory=dict)
    _since: dict[int, int] = field(default_factory=dict)  # the submit that the content is from

    def create(self, handle: int, size: int, submit: int = 0) -> None:
        """Make a buffer of zeros that the submits from this one on can use."""
        self.memory[handle] = np.zeros(size, np.uint8)
        self._since[handle] = submit - 1

    def close(self, handle: int) -> None:
        """Drop a buffer."""
        del self.memory[handle]

    def fill(self, submit: int, handles: Sequence[int]) -> set[int]:
        """Give buffers what they held at a submit; return those that had changed for it."""
        filled = set()
        for handle in handles:
            key = self.recording.key(handle, submit)
            if key is None or (kept := int(key.rpartition("_")[2])) <= self._since[handle]:
                continue
            memory = self.memory[handle]
            content = self.recording.arrays[key][: len(memory)]
            memory[:] = 0
            memory[: len(content)] = content
            self._since[handle] = kept
            if kept == submit:
                filled.add(handle)
        return filled

    def run(self, chip: Chip, entry: Mapping[str, Any], execute: Run) -> None:
        """Execute a submit on what the buffers hold. Raises SimulatorFault, RecordingError."""
        memory, flags = DeviceMemory(), {}
        if entry["bos"] and not entry["flags"] & uapi.SUBMIT_SOFTPIN:
            raise RecordingError(
                f"{self.recording.name}: submit {entry['submit']} lets the kernel choose addresses,"
                " must choose them itself (SUBMIT_SOFTPIN) to be replayed: they are not recorded"
            )
        for handle, use, address in entry["bos"]:
            memory.map(address, self.memory[handle], f"bo {handle}")
            flags[address] = use
        stream = self.recording.stream(entry["submit"])
        execute(chip, memory, stream, flags, f"submit {entry['submit']}")


def chip_of(recording: Recording) -> Chip:
    """Return the chip, with its variants, that a recording is of. Raises RecordingError."""
    if recording.driver != "etnaviv":
        raise RecordingError(f"{recording.name}: driver is {recording.driver!r}, must be 'etnaviv'")
    name = str(recording.meta["device"])
    if name == recording.driver and (found := _identified(recording)):
        name = found
    try:
        return EtnavivDevice(name, recording.meta.get("options")).limits
    except (DriverUnavailable, OptionError, AttributeError) as error:
        raise RecordingError(f"{recording.name}: {error}") from error


def _identified(recording: Recording) -> str:
    """Return the name of the chip that the kernel named to the recorded program, "" for none."""
    cores: dict[int, dict[int, int]] = {}
    for entry in recording.log:
        if entry["ioctl"] == "GET_PARAM":
            cores.setdefault(entry["pipe"], {})[entry["param"]] = entry["value"]
    for values in cores.values():
        chip = identify(Identity(*(values.get(param, 0) for param in _IDENTITY)))
        if chip is not None:
            return chip.name
    return ""


def replay(recording: Recording, run: Run, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run every submit of a recording; return tensors by name, other outputs as bytes.

    inputs: arrays by name, in place of what was recorded. Raises RecordingError, SimulatorFault.
    """
    chip = chip_of(recording)
    if not recording.submits:
        raise RecordingError(
            f"{recording.name}: nothing was submitted, must have a GEM_SUBMIT (the recorded program"
            f" ended with {recording.meta['status']})"
        )
    replayed = _Replay(recording, chip, run, dict(inputs))
    for number, entry in enumerate(recording.log):
        try:
            replayed.step(entry)
        except _DAMAGE as error:
            raise misfit(recording, f"log[{number}], {entry['ioctl']},", error) from error
    if unknown := set(inputs) - replayed.names:
        raise RecordingError(
            f"{recording.name}: input {sorted(unknown)[0]!r} is not one of this recording, must be "
            f"one of {', '.join(sorted(replayed.names)) or 'none'}"
        )
    return replayed.outputs


class _Replay:
    def __init__(
        self, recording: Recording, chip: Chip, run: Run, given: Mapping[str, Array]
    ) -> None:
        self.outputs: dict[str, Array] = {}
        self.names: set[str] = set()
        self._recording, self._chip, self._run, self._given = recording, chip, run, given
        self._seeded = seeded_inputs(recording)
        self._buffers = Buffers(recording)
        self._submit_number = 0

    def step(self, entry: Mapping[str, Any]) -> None:
        """Do what one line of the log says. Nothing waits: a submit ends before the next line."""
        if entry.get("errno"):
            return
        if entry["ioctl"] == "GEM_NEW":
            self._buffers.create(entry["handle"], entry["size"], self._submit_number)
        elif entry["ioctl"] == "GEM_USERPTR":
            self._buffers.create(entry["handle"], entry["user_size"], self._submit_number)
        elif entry["ioctl"] == "GEM_CLOSE":
            self._buffers.close(entry["handle"])
        elif entry["ioctl"] == "GEM_SUBMIT":
            self._submit(entry)

    def _submit(self, entry: Mapping[str, Any]) -> None:
        number = entry["submit"]
        places = list(_places(self._recording, entry))
        filled = self._buffers.fill(number, [handle for handle, _, _ in entry["bos"]])
        for place in places:
            if not place.written:
                self._store(place, place.port.buffer in filled)
        self._buffers.run(self._chip, entry, self._run)
        named = set()
        for place in places:
            if place.written:
                named.add(place.port.buffer)
                self.outputs[place.name] = place.port.fetch(self._buffers.memory[place.port.buffer])
        for handle, use, _ in entry["bos"]:
            memory = self._buffers.memory[handle]
            kept = self._recording.arrays.get(f"after_{handle}_{number}")
            if kept is not None:
                self.outputs[f"after_{handle}_{number}"] = memory[: kept.size].copy()
            elif use == WRITE and handle not in named:
                self.outputs[f"bo_{handle}_{number}"] = memory.copy()
        self._submit_number = number + 1

    def _store(self, place: Place, recorded: bool) -> None:
        """Put an input into its buffer: the given array, else the recorded or the seeded one."""
        self.names.add(place.name)
        array = self._given.get(place.name)
        if array is None and not recorded:
            array = self._seeded.get(place.name)
        if array is None:
            return
        wanted = place.port.type
        if array.shape != wanted.shape or array.dtype != wanted.dtype.numpy:
            raise RecordingError(
                f"input {place.name!r} is {array.dtype}{list(array.shape)}, must be "
                f"{wanted.dtype.numpy}{list(wanted.shape)}"
            )
        place.port.store(array, self._buffers.memory[place.port.buffer])


def _places(recording: Recording, entry: Mapping[str, Any]) -> Iterator[Place]:
    """Yield the tensors of a submit that can be put in or taken out."""
    handles = {handle for handle, _, _ in entry["bos"]}
    if own := recording.meta.get("ports"):
        for port in own:
            if port["handle"] in handles:
                found = recorded_port(PORTS, port, recording)
                yield Place(port["name"], found, port["kind"] == "output")
        return
    number = entry["submit"] - 1  # the first submit only brings the pipe into a known state
    partitions = recording.meta.get("teflon_partitions") or []
    if not entry["bos"] or number >= len(partitions):
        return
    operations = partitions[number]
    read = {index for op in operations for index in op["inputs"]}
    written = {index for op in operations for index in op["outputs"]}
    roles = {bo["handle"]: bo["roles"] for bo in recording.meta["bos"]}
    for flag, role, model, inner in (
        (READ, "input", "inputs", written),
        (WRITE, "output", "outputs", read),
    ):
        ends = (read if flag == READ else written) - inner
        tensors = [tensor for tensor in recording.meta[model] if tensor["index"] in ends]
        buffers = [h for h, use, _ in entry["bos"] if use == flag and role in roles[h]]
        many = len(tensors) != 1 or len(buffers) != 1
        if many or (flag == WRITE and len(ends) != 1):
            continue
        yield Place(tensors[0]["name"], _mesa_port(tensors[0], buffers[0]), flag == WRITE)


def _mesa_port(tensor: Mapping[str, Any], handle: int) -> Port:
    """Return how Mesa lays out a tensor at the border of a partition: as TFLite does.

    Ref: docs/hardware/etnaviv.md section 4 (signed values are stored with the top bit inverted)
    """
    kind = tensor_type(tensor)
    return Port(kind, handle, 0, 128 * (kind.dtype.numpy.kind == "i"))
