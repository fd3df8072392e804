"""The container of compiled programs: a JSON header and named arrays, checked before use."""

from __future__ import annotations

import dataclasses
import functools
import json
import struct
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, Self, TypeVar

import numpy as np

from teflon.errors import ProgramError
from teflon.ir.types import Array, DType, Quantization, TensorType
from teflon.pipe import Data, Program

P = TypeVar("P")

MAGIC = b"TEFLONPR"
FORMAT = 2
_HEAD = struct.Struct("<8sIII4x")  # magic, format version, length of the JSON, CRC-32 of the rest
_ALIGN = 64


@dataclass(frozen=True)
class Buffer:
    """One buffer object, in creation order.

    `size` is what is asked of the kernel; `data` lies at its start (None for tensors), what is
    behind it stays zero. `name` is the operation's or the tensor's.
    """

    role: str  # one of the driver's roles
    size: int
    data: Data | None
    name: str


class Place(Protocol):
    """A driver's port: how an input or output of `type` lies in a buffer."""

    @property
    def type(self) -> TensorType: ...
    @property
    def buffer(self) -> int: ...
    @property
    def name(self) -> str: ...


class BufferProgram(Program):
    """A program of buffers, in creation order, and of ports: where tensors lie in them."""

    version: ClassVar[str]
    """Of the compiler: programs of another one are refused."""
    port: ClassVar[type[Any]]

    strategy: str
    buffers: tuple[Buffer, ...]
    input_ports: tuple[Place, ...]
    output_ports: tuple[Place, ...]

    @cached_property
    def inputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(port.type for port in self.input_ports)

    @cached_property
    def outputs(self) -> tuple[TensorType, ...]:  # type: ignore[override]
        return tuple(port.type for port in self.output_ports)

    @property
    def caveat(self) -> str:
        """What to add to a fault of this program."""
        if self.strategy != "mesa":
            return ""
        return " (strategy mesa keeps Mesa's mistakes: strategy exact has none of those known)"

    @abstractmethod
    def own_parts(self) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return what else the header and the arrays of the file have."""

    @classmethod
    @abstractmethod
    def from_own_parts(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], common: Mapping[str, Any]
    ) -> Self:
        """Return the program of a file; `common` is what all programs have, for the constructor."""

    def to_bytes(self) -> bytes:
        header, arrays = self.own_parts()
        common = {
            "driver": self.driver,
            "version": self.version,
            "chip": self.chip,
            "strategy": self.strategy,
            "buffers": buffer_rows(self.buffers),
            "inputs": [port_to_json(port) for port in self.input_ports],
            "outputs": [port_to_json(port) for port in self.output_ports],
            "counts": dict(self.statistics),
        }
        return pack({**common, **header}, {**arrays, **buffer_arrays(self.buffers)})

    @classmethod
    def from_bytes(cls, data: Data, chip: str) -> Self:
        """Return the program that `to_bytes` wrote; raises ProgramError (see `unpack`)."""
        header, arrays = unpack(data, cls.driver, cls.version)
        refuse_other("chip", header.get("chip", ""), chip)
        with reading():
            common = {
                "chip": header["chip"],
                "strategy": header["strategy"],
                "buffers": buffers_from(header["buffers"], arrays),
                "input_ports": tuple(port_from_json(cls.port, p) for p in header["inputs"]),
                "output_ports": tuple(port_from_json(cls.port, p) for p in header["outputs"]),
                "counts": header["counts"],
            }
            return cls.from_own_parts(header, arrays, common)

    def name_of(self, port: Place) -> str:
        """Return an input's or output's name."""
        return port.name or self.buffers[port.buffer].name


def buffer_rows(buffers: Sequence[Buffer]) -> list[list[Any]]:
    """Return what a header keeps of buffers; `buffer_arrays` has their content."""
    return [[b.role, b.size, b.name, b.data is not None] for b in buffers]


def buffer_arrays(buffers: Sequence[Buffer]) -> dict[str, Array]:
    """Return the content of those buffers that have one, by section name."""
    return {
        f"buffer {number}": np.frombuffer(buffer.data, np.uint8)
        for number, buffer in enumerate(buffers)
        if buffer.data is not None
    }


def buffers_from(rows: Sequence[Sequence[Any]], arrays: Mapping[str, Array]) -> tuple[Buffer, ...]:
    """Return the buffers of `buffer_rows` and `buffer_arrays`; their content is not copied."""
    return tuple(
        Buffer(role, size, arrays[f"buffer {number}"].data if filled else None, name)
        for number, (role, size, name, filled) in enumerate(rows)
    )


def pack(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return a program file: `header` must be JSON and name driver, version, chip, strategy."""
    table, end = {}, 0
    parts: list[bytes | memoryview] = []
    for name, array in arrays.items():
        gap = -end % _ALIGN
        table[name] = [end + gap, array.dtype.str, list(array.shape)]
        parts += [bytes(gap), np.ascontiguousarray(array).reshape(-1).view(np.uint8).data]
        end += gap + array.nbytes
    text = json.dumps({**header, "sections": table}, separators=(",", ":")).encode()
    rest: list[bytes | memoryview] = [text, bytes(-(_HEAD.size + len(text)) % _ALIGN), *parts]
    checksum = functools.reduce(lambda found, part: zlib.crc32(part, found), rest, 0)
    return b"".join([_HEAD.pack(MAGIC, FORMAT, len(text), checksum), *rest])


def unpack(data: Data, driver: str, version: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return header and arrays (views on `data`, read only) of a program file.

    Raises ProgramError for bytes that are no program, are damaged, or were written by another
    format, driver or driver version; both sides are named.
    """
    if len(data) < _HEAD.size or data[:8] != MAGIC:
        raise ProgramError(
            f"program: begins with {bytes(data[:8])!r}, must begin with {MAGIC!r}"
            " (is this a compiled program?)"
        )
    _, form, length, checksum = _HEAD.unpack_from(data)
    if form != FORMAT:
        raise ProgramError(f"program: format is {form}, must be {FORMAT} (compile it again)")
    rest = memoryview(data)[_HEAD.size :]
    if zlib.crc32(rest) != checksum:
        raise ProgramError(
            f"program: checksum of its {len(data)} bytes is not the one it was written with"
            " (the file is damaged: compile it again)"
        )
    with reading():
        header: dict[str, Any] = json.loads(bytes(rest[:length]))
        refuse_other("driver", header["driver"], driver)
        refuse_other("driver version", header["version"], version)
        return header, _sections(header, rest[length + -(_HEAD.size + length) % _ALIGN :])


@contextmanager
def reading() -> Iterator[None]:
    """Raise ProgramError where the content, whole as it is, lacks something or has it wrong."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ProgramError(
            f"program: {type(error).__name__} while reading it: {error}, must be as its format"
            " version says (compile it again)"
        ) from error


def refuse_other(what: str, theirs: str, ours: str) -> None:
    """Raise ProgramError where a program's driver, version or chip is not ours."""
    if theirs != ours:
        raise ProgramError(
            f"program: {what} is {theirs!r}, must be {ours!r} (compile the model for this {what})"
        )


def _sections(header: Mapping[str, Any], body: memoryview) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, (offset, dtype, shape) in header["sections"].items():
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.frombuffer(body, dtype, count, offset).reshape(shape)
    return found


def type_to_json(tensor: TensorType) -> dict[str, Any]:
    """Return a tensor type as JSON; scales survive exactly."""
    quantization = tensor.quantization
    plain = None
    if quantization is not None:
        plain = [quantization.scales, quantization.zero_points, quantization.axis]
    return {"dtype": tensor.dtype.value, "shape": tensor.shape, "quantization": plain}


def type_from_json(plain: Mapping[str, Any]) -> TensorType:
    """Return the tensor type that `type_to_json` wrote."""
    quantization = None
    if plain["quantization"] is not None:
        scales, zero_points, axis = plain["quantization"]
        quantization = Quantization(tuple(scales), tuple(zero_points), axis)
    return TensorType(DType(plain["dtype"]), tuple(plain["shape"]), quantization)


def port_to_json(port: Any) -> dict[str, Any]:
    """Return a driver's port, a dataclass with the tensor's `type`, as plain values."""
    plain = {f.name: getattr(port, f.name) for f in dataclasses.fields(port)}
    return {**plain, "type": type_to_json(port.type)}


def port_from_json(kind: type[P], plain: Mapping[str, Any]) -> P:
    """Return the port of this class that `port_to_json` wrote."""
    return kind(**{**plain, "type": type_from_json(plain["type"])})
