"""The file format of compiled programs: a JSON header and arrays with names, with a checksum."""

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
from teflon_common.strategy import MESA

P = TypeVar("P")

MAGIC = b"TEFLONPR"
FORMAT = 2
_HEAD = struct.Struct("<8sIII4x")  # magic, format version, length of the JSON, CRC-32 of the rest
_ALIGN = 64

CAVEATS = {MESA: " (strategy mesa keeps Mesa's mistakes; strategy exact avoids the known ones)"}
"""Strategy -> a note for the text of a fault in its programs."""


@dataclass(frozen=True)
class Buffer:
    """One buffer object of a program.

    `size` is the size for the kernel. `data` is the content at its start, None for tensors; the
    rest is zero. `name` is that of the operation or the tensor.
    """

    role: str  # one of the driver's roles
    size: int
    data: Data | None
    name: str


class Place(Protocol):
    """A driver's port: the place of an input or output in a buffer."""

    @property
    def type(self) -> TensorType: ...
    @property
    def buffer(self) -> int: ...
    @property
    def name(self) -> str: ...


class BufferProgram(Program):
    """A program with buffers, in order of creation, and ports: the places of tensors in them."""

    version: ClassVar[str]
    """The compiler's version; programs of another version are refused."""
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
        """A note for the text of a fault in this program."""
        return CAVEATS.get(self.strategy, "")

    @abstractmethod
    def own_parts(self) -> tuple[Mapping[str, Any], Mapping[str, Array]]:
        """Return further fields of the header and further arrays of the file."""

    @classmethod
    @abstractmethod
    def from_own_parts(
        cls, header: Mapping[str, Any], arrays: Mapping[str, Array], common: Mapping[str, Any]
    ) -> Self:
        """Return the program of a file; `common` has the constructor's common arguments."""

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
        """Return the program that `to_bytes` wrote. Raises ProgramError as `unpack` does."""
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
    """Return the rows of buffers for the header; `buffer_arrays` returns their content."""
    return [[b.role, b.size, b.name, b.data is not None] for b in buffers]


def buffer_arrays(buffers: Sequence[Buffer]) -> dict[str, Array]:
    """Return section name -> content, for the buffers that have content."""
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
    """Return a program file. `header` is JSON with driver, version, chip and strategy."""
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
    """Return header and arrays of a program file; the arrays are read-only views of `data`.

    Raises ProgramError for bytes that are not a program, are damaged, or have another format,
    driver or driver version; the text names both.
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
    """Turn errors of the body into ProgramError: the checksum is right, but the content is not."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise ProgramError(
            f"program: {type(error).__name__} while reading it: {error}, must be as its format"
            " version says (compile it again)"
        ) from error


def refuse_other(what: str, theirs: str, ours: str) -> None:
    """Raise ProgramError if a program's driver, version or chip is not ours."""
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
    """Return a tensor type as JSON; scales stay exact."""
    quantization = tensor.quantization
    plain = None
    if quantization is not None:
        plain = [quantization.scales, quantization.zero_points, quantization.axis]
    found = {"dtype": tensor.dtype.value, "shape": tensor.shape, "quantization": plain}
    return {**found, "dynamic": True} if tensor.dynamic else found


def type_from_json(plain: Mapping[str, Any]) -> TensorType:
    """Return the tensor type that `type_to_json` wrote."""
    quantization = None
    if plain["quantization"] is not None:
        scales, zero_points, axis = plain["quantization"]
        quantization = Quantization(tuple(scales), tuple(zero_points), axis)
    dynamic = bool(plain.get("dynamic"))
    return TensorType(DType(plain["dtype"]), tuple(plain["shape"]), quantization, dynamic)


def port_to_json(port: Any) -> dict[str, Any]:
    """Return a driver's port as JSON; it is a dataclass with the tensor's `type`."""
    plain = {f.name: getattr(port, f.name) for f in dataclasses.fields(port)}
    return {**plain, "type": type_to_json(port.type)}


def port_from_json(kind: type[P], plain: Mapping[str, Any]) -> P:
    """Return the port that `port_to_json` wrote; `kind` is its class."""
    return kind(**{**plain, "type": type_from_json(plain["type"])})
