"""A compiled etnaviv program: buffers, the command stream, where addresses go, tensors' places."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from teflon.ir.schema import LARGEST, Code, Each, Inside, Malformed, Number, Real, Table, Text
from teflon.ir.types import Array, DType, TensorType
from teflon_common.program import FILLED, SIZES, TYPE, Buffer, BufferProgram, extents
from teflon_common.strategy import EXACT, MESA
from teflon_etnaviv.grouped import Grouped, remarks

DRIVER = "etnaviv"
VERSION = "7"
"""Raised whenever the compiler's output changes: programs of another version are refused."""

TENSOR = "tensor"
"""Role of buffers that hold tensors; each engine names the roles of its own buffers."""
NN_CODE, TP_CODE = "nn_config", "tp_config"
"""Roles of buffers that hold instructions."""
INSTRUCTION_BYTES = {NN_CODE: 136, TP_CODE: 124}
"""Role -> bytes of an instruction."""

ADDRESS_SPACE = (1 << 32) - (4 << 20)
"""Bytes that buffers can be pinned in. Ref: docs/hardware/etnaviv.md section 2.3"""

STREAM = -1
"""The command stream's number in a Reloc."""
READ, WRITE = 1, 2
"""Flags of a buffer in a submit, as in the kernel's interface."""

ADDR32 = "addr32"
ADDR26_SHR6 = "addr26_shr6"
KINDS = (ADDR32, ADDR26_SHR6)

CODE = "code"
"""Scope of launches: see `_scope`."""


@dataclass(frozen=True)
class Reloc:
    """A word that holds a device address: at byte `offset` of a buffer, or of the STREAM.

    kind addr32: the word := address(target) + addend; addr26_shr6: its bits 0..25 := that >> 6.
    """

    buffer: int
    offset: int
    kind: str
    target: int
    addend: int = 0


RELOCS = Table(
    "reloc",
    Reloc,
    buffer=Number(STREAM, of=SIZES),
    offset=Inside("buffer", FILLED, 4, step=4),
    kind=Code(names=KINDS),
    target=Number(of=SIZES),
    addend=Inside("target", SIZES),
)


@dataclass(frozen=True)
class Launch:
    """An instruction that the stream starts: byte `offset` of a buffer of instructions.

    name: the operation's, which may be started several times; coded: bytes of its coefficients.
    """

    name: str
    buffer: int
    offset: int = 0
    coded: int = 0


LAUNCHES = Table(
    "launch",
    Launch,
    name=Text(),
    buffer=Number(of=SIZES),
    offset=Inside("buffer", CODE, 1, step=4),
    coded=Number(),
)


class _Use(NamedTuple):
    """How a submit uses a buffer: READ | WRITE."""

    buffer: int
    flags: int


_USES = Table("use", _Use, buffer=Number(of=SIZES), flags=Number(READ, READ | WRITE))

_GROUPED = Table(
    "layer",
    Grouped,
    title=Text(),
    channels=Number(),
    jobs=Number(),
    decibels=Real(-1000, math.inf),
    worst=Real(-1000, math.inf),
)


@dataclass(frozen=True)
class Port:
    """How an input or output lies in a tensor buffer: its bytes at `offset`, XORed with `flip`.

    order: the channel that lies in each place of the last axis, nothing where all lie in their own.
    """

    type: TensorType
    buffer: int
    offset: int = 0
    flip: int = 0
    name: str = ""
    order: Sequence[int] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(self.order))

    @property
    def end(self) -> int:
        """Bytes of the buffer up to the tensor's end. Raises Malformed for a wrong order."""
        kind, channels = self.type, self.type.shape[-1] if self.type.shape else 0
        if not kind.size or kind.dtype is DType.OTHER:
            raise Malformed(
                f"port {self.name!r}: type is {kind.dtype.value}{list(kind.shape)}, must have"
                " elements of a known type"
            )
        if self.order and sorted(self.order) != list(range(channels)):
            raise Malformed(
                f"port {self.name!r}: order must have its {channels} channels once each"
            )
        return self.offset + kind.size_bytes

    def place(self, memory: memoryview | Array) -> Place:
        """Return the tensor's place in the buffer's bytes."""
        raw = np.frombuffer(memory, np.uint8)[self.offset : self.offset + self.type.size_bytes]
        shaped = raw.view(self.type.dtype.numpy).reshape(self.type.shape)
        return Place(raw, shaped, self.flip, np.array(self.order, np.intp))

    def store(self, array: Array, memory: memoryview | Array) -> None:
        """Convert an array of `type` into the buffer's bytes."""
        self.place(memory).store(array)

    def fetch(self, memory: memoryview | Array) -> Array:
        """Return the tensor in the buffer's bytes, as a new array of `type`."""
        return self.place(memory).fetch()


PORTS = Table(
    "port",
    Port,
    type=TYPE,
    buffer=Number(of=SIZES),
    offset=Number(),
    flip=Number(0, 255),
    name=Text(),
    order=Each(Number()),
)


@dataclass(frozen=True)
class Place:
    """The bytes of an input or output in mapped memory, also as an array of its type."""

    raw: Array
    shaped: Array
    flip: int
    order: npt.NDArray[np.intp]

    def store(self, array: Array) -> None:
        """Convert an array of the type into the bytes, in one pass."""
        if len(self.order):
            array = array[..., self.order]
        if self.flip:
            np.bitwise_xor(array.reshape(-1).view(np.uint8), self.flip, out=self.raw)
        else:
            self.shaped[...] = array

    def fetch(self, into: Array | None = None) -> Array:
        """Return the tensor: a new array, or `into`, which is one that is C-contiguous."""
        found = np.empty_like(self.shaped) if into is None else into
        if len(self.order):
            raw = np.bitwise_xor(self.raw, self.flip).view(self.shaped.dtype)
            found[..., self.order] = raw.reshape(self.shaped.shape)
        elif self.flip:
            np.bitwise_xor(self.raw, self.flip, out=found.reshape(-1).view(np.uint8))
        else:
            found[...] = self.shaped
        return found


class Patches(NamedTuple):
    """The relocs of one buffer, or of the stream, as arrays."""

    words: Array  # numbers of the 32-bit words
    targets: Array
    addends: Array
    high: Array  # whether bits 26 to 31 of the word stay and the rest is the address >> 6

    def apply(self, content: Array, addresses: Array) -> Array:
        """Return the words as they are with buffers at these addresses.

        content: the words of the whole buffer, without addresses.
        """
        found = addresses[self.targets] + self.addends
        kept = content[self.words] & ~np.uint32(0x3FFFFFF)
        return np.where(self.high, kept | found >> 6, found).astype(np.uint32)


@dataclass(frozen=True, eq=False)
class EtnavivProgram(BufferProgram):
    """What one NPU executes for a subgraph; addresses are filled in by the context."""

    version = VERSION
    port = Port
    ports = PORTS
    strategies = (EXACT, MESA)
    space = ADDRESS_SPACE

    chip: str
    strategy: str
    buffers: tuple[Buffer, ...]
    stream: bytes
    relocs: tuple[Reloc, ...]
    bos: tuple[tuple[int, int], ...]  # (buffer, READ | WRITE) in the order of the submit
    instructions: tuple[Launch, ...]  # in the order of the stream
    input_ports: tuple[Port, ...]
    output_ports: tuple[Port, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    grouped: tuple[Grouped, ...] = ()
    driver: str = DRIVER

    @cached_property
    def patches(self) -> Mapping[int, Patches]:
        """The relocs by buffer, in arrays."""
        found: dict[int, list[Reloc]] = {}
        for reloc in self.relocs:
            found.setdefault(reloc.buffer, []).append(reloc)
        return {
            buffer: Patches(
                np.array([r.offset // 4 for r in relocs]),
                np.array([r.target for r in relocs]),
                np.array([r.addend for r in relocs]),
                np.array([r.kind == ADDR26_SHR6 for r in relocs]),
            )
            for buffer, relocs in found.items()
        }

    @cached_property
    def launches(self) -> tuple[str, ...]:
        """The names of what the stream starts, in order: operations, some of them several times."""
        return tuple(launch.name for launch in self.instructions)

    @property
    def statistics(self) -> Mapping[str, int]:
        """Return tasks, jobs, command_words, coefficient_bytes, bo_bytes, macs, operations.

        Strategy exact adds arena_bytes, arena_bound (no plan takes less) and tensor_bytes (all
        tensors).
        """
        return self.counts

    @property
    def remarks(self) -> Sequence[str]:
        """Say what became of layers with a scale for each output channel."""
        return tuple(remarks(self.grouped))

    def own_parts(self) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        header = {
            "bos": _USES.write([_Use(*use) for use in self.bos]),
            "instructions": LAUNCHES.write(self.instructions),
            "grouped": _GROUPED.write(self.grouped),
        }
        stream = np.frombuffer(self.stream, np.uint8)
        return header, {"stream": stream, "relocs": RELOCS.array(self.relocs)}

    @classmethod
    def from_own_parts(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], common: Mapping[str, Any]
    ) -> Self:
        buffers, stream = common["buffers"], arrays["stream"]
        if stream.dtype != np.uint8 or stream.size % 4:
            raise Malformed(f"its stream is {stream.size} of {stream.dtype}, must be whole words")
        scope = _scope(buffers, stream.size)
        bos = _USES.read(header["bos"], scope)
        if len({use.buffer for use in bos}) != len(bos):
            raise Malformed("its submit lists a buffer twice, must list each once")
        return cls(
            stream=stream.tobytes(),
            relocs=tuple(RELOCS.read(arrays["relocs"], scope)),
            bos=tuple((use.buffer, use.flags) for use in bos),
            instructions=tuple(LAUNCHES.read(header["instructions"], scope)),
            grouped=tuple(_GROUPED.read(header["grouped"])),
            **common,
        )


def _scope(buffers: Sequence[Buffer], stream: int) -> Mapping[str, Array]:
    """Return what relocs and launches refer to: FILLED ends with the stream; CODE has the bytes in
    which instructions begin, none where there are no instructions.
    """
    scope = extents(buffers)
    rest = [INSTRUCTION_BYTES.get(buffer.role, LARGEST) - 1 for buffer in buffers]
    code = np.maximum(scope[FILLED] - np.array(rest, np.int64), 0)
    return {**scope, CODE: code, FILLED: np.append(scope[FILLED], stream)}
