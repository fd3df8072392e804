"""The file format of compiled programs: a JSON header and arrays with names, with a checksum."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import struct
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeVar

import numpy as np

from teflon.errors import ProgramError
from teflon.ir.schema import (
    LARGEST,
    Each,
    Flag,
    Malformed,
    Number,
    Read,
    Table,
    Text,
    shown,
)
from teflon.ir.schema_types import AXES, countable, tensor_type
from teflon.ir.types import Array, TensorType
from teflon.pipe import Data, Program
from teflon_common.strategy import MESA

P = TypeVar("P")

MAGIC = b"TEFLONPR"
FORMAT = 2
_HEAD = struct.Struct("<8sIII4x")  # magic, format version, length of the JSON, CRC-32 of the rest
_ALIGN = 64
_PAGE = 4096
_BROKEN = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError,
           ValueError, struct.error)  # fmt: skip
"""What reading a file may raise that has the right checksum and a wrong content."""

SIZES, FILLED = "sizes", "filled"
"""Scopes of a program's tables: the bytes of its buffers, and of their content. See `extents`."""

COUNTED = ("tasks", "jobs", "command_words", "coefficient_bytes", "macs")
"""The counts that all programs have."""

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


class _BufferRow(NamedTuple):
    role: str
    size: int
    name: str
    filled: bool


_BUFFERS = Table(
    "buffer", _BufferRow, role=Text(), size=Number(), name=Text(), filled=Flag()
)  # fmt: skip


class _Section(NamedTuple):
    name: str
    offset: int
    dtype: str
    shape: tuple[int, ...]


_SECTIONS = Table(
    "section", _Section, name=Text(), offset=Number(),
    dtype=Text(tuple(np.dtype(code).str for code in "?bBhHiIqQefdFD")), shape=Each(Number()),
)  # fmt: skip


_COUNTS = Table("count", lambda *row: row, name=Text(), number=Number())


class BufferProgram(Program):
    """A program with buffers, in order of creation, and ports: the places of tensors in them."""

    version: ClassVar[str]
    """The compiler's version; programs of another version are refused."""
    port: ClassVar[type[Any]]
    ports: ClassVar[Table[Any] | None] = None
    """What the fields of `port` must be. None: only those of `Place` are checked."""
    strategies: ClassVar[tuple[str, ...]] = ()
    """The strategies that programs can have; none: any."""
    space: ClassVar[int] = LARGEST
    """Bytes of device addresses: what all buffers take together, in whole pages, must fit."""

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
            buffers = buffers_from(header["buffers"], arrays)
            check_space(buffers, cls.space)
            common = {
                "chip": header["chip"],
                "strategy": _strategy(header["strategy"], cls.strategies),
                "buffers": buffers,
                "input_ports": cls._ports("input", header["inputs"], buffers),
                "output_ports": cls._ports("output", header["outputs"], buffers),
                "counts": counts_from(header["counts"]),
            }
            return cls.from_own_parts(header, arrays, common)

    @classmethod
    def _ports(cls, what: str, rows: Any, buffers: Sequence[Buffer]) -> tuple[Place, ...]:
        """Return the ports of a header; what they take must lie in their buffers."""
        if cls.ports is not None:
            found = cls.ports.read(rows, extents(buffers))
        else:
            found = [port_from_json(cls.port, plain) for plain in rows]
            _PLACES.read([[p.type, p.buffer, p.name] for p in found], extents(buffers))
        for number, port in enumerate(found):
            size, end = buffers[port.buffer].size, getattr(port, "end", 0)
            if end > size:
                raise Malformed(f"{what} {number} ends at byte {end}, must end within its buffer of"
                                f" {size} bytes")  # fmt: skip
        return tuple(found)

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


def buffers_from(rows: Any, arrays: Mapping[str, Array]) -> tuple[Buffer, ...]:
    """Return the buffers of `buffer_rows` and `buffer_arrays`; their content is not copied.

    Raises Malformed.
    """
    found = []
    for number, row in enumerate(_BUFFERS.read(rows)):
        content = arrays.get(f"buffer {number}") if row.filled else None
        if row.filled and (content is None or content.dtype != np.uint8 or content.ndim != 1):
            raise Malformed(f"buffer {number} is filled, must have a section of bytes")
        if content is not None and content.size > row.size:
            raise Malformed(f"buffer {number} has {content.size} bytes of content, must have at"
                            f" most its {row.size}")  # fmt: skip
        found.append(
            Buffer(row.role, row.size, None if content is None else content.data, row.name)
        )
    return tuple(found)


def extents(buffers: Sequence[Buffer]) -> dict[str, Array]:
    """Return the scope of a program's tables: SIZES and FILLED."""
    return {
        SIZES: np.array([b.size for b in buffers], np.int64),
        FILLED: np.array([0 if b.data is None else len(b.data) for b in buffers], np.int64),
    }


def check_space(buffers: Sequence[Buffer], space: int) -> None:
    """Raise Malformed for buffers that do not fit into the device's addresses together."""
    total = sum(-(-b.size // _PAGE) * _PAGE for b in buffers)
    if total > space:
        raise Malformed(f"its buffers take {total} bytes of device addresses, must fit in {space}")


def counts_from(plain: Any) -> dict[str, int]:
    """Return the counts and sizes of a header. Raises Malformed."""
    if type(plain) is not dict or not plain.keys() >= set(COUNTED):
        raise Malformed(f"counts are {shown(plain)}, must have {', '.join(COUNTED)}")
    _COUNTS.read([list(item) for item in plain.items()])
    return plain


def _strategy(name: Any, known: tuple[str, ...]) -> str:
    """Return the strategy of a header. Raises Malformed."""
    if Text(known).wrong([name], {}, {}):
        raise Malformed(f"strategy is {shown(name)}, must be {Text(known).must({})}")
    return str(name)


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
        header = json.loads(bytes(rest[:length]))
        if type(header) is not dict:
            raise Malformed(f"its header is {shown(header)}, must be an object")
        refuse_other("driver", header["driver"], driver)
        refuse_other("driver version", header["version"], version)
        return header, _sections(header, rest[length + -(_HEAD.size + length) % _ALIGN :])


@contextmanager
def reading() -> Iterator[None]:
    """Turn errors of the body into ProgramError: the checksum is right, but the content is not."""
    try:
        yield
    except Malformed as error:
        raise ProgramError(f"program: {error} (compile the model again)") from error
    except _BROKEN as error:
        raise ProgramError(
            f"program: {type(error).__name__} while reading it: {error}, must be as its format"
            " version says (compile it again)"
        ) from error


def refuse_other(what: str, theirs: str, ours: str) -> None:
    """Raise ProgramError if a program's driver, version or chip is not ours."""
    if theirs != ours:
        raise ProgramError(
            f"program: {what} is {shown(theirs)}, must be {ours!r} (compile the model for this"
            f" {what})"
        )


def _sections(header: Mapping[str, Any], body: memoryview) -> dict[str, Array]:
    table = header["sections"]
    if type(table) is not dict or any(type(row) is not list for row in table.values()):
        raise Malformed(f"sections are {shown(table)}, must be lists by name")
    found: dict[str, Array] = {}
    for one in _SECTIONS.read([[name, *row] for name, row in table.items()]):
        count, dtype = math.prod(one.shape), np.dtype(one.dtype)
        fits = len(one.shape) <= AXES and countable(one.shape, dtype.itemsize)
        if not fits or one.offset + count * dtype.itemsize > len(body):
            raise Malformed(
                f"section {shown(one.name)} of {one.dtype}{shown(list(one.shape))} at {one.offset},"
                f" must end within the {len(body)} bytes of all sections"
            )
        flat = np.frombuffer(body, dtype, count, one.offset) if count else np.empty(0, dtype)
        found[one.name] = flat.reshape(one.shape)
    return found


def type_to_json(tensor: TensorType) -> dict[str, Any]:
    """Return a tensor type as JSON; scales stay exact."""
    quantization = tensor.quantization
    plain = None
    if quantization is not None:
        plain = [quantization.scales, quantization.zero_points, quantization.axis]
    found = {"dtype": tensor.dtype.value, "shape": tensor.shape, "quantization": plain}
    return {**found, "dynamic": True} if tensor.dynamic else found


def type_from_json(plain: Any) -> TensorType:
    """Return the tensor type that `type_to_json` wrote. Raises Malformed."""
    if type(plain) is not dict or not plain.keys() >= {"dtype", "shape", "quantization"}:
        raise Malformed(f"is {shown(plain)}, must have dtype, shape and quantization")
    parts = (plain["dtype"], plain["shape"], plain["quantization"])
    return tensor_type(*parts, plain.get("dynamic", False))


TYPE = Read(type_from_json, type_to_json, "a tensor type")
"""A tensor type as a field of a table."""


def port_to_json(port: Any) -> dict[str, Any]:
    """Return a driver's port as JSON; it is a dataclass with the tensor's `type`."""
    plain = {f.name: getattr(port, f.name) for f in dataclasses.fields(port)}
    return {**plain, "type": type_to_json(port.type)}


def port_from_json(kind: type[P], plain: Mapping[str, Any]) -> P:
    """Return the port that `port_to_json` wrote; `kind` is its class."""
    return kind(**{**plain, "type": type_from_json(plain["type"])})


_PLACES = Table(
    "port", lambda *row: row, type=Read(lambda found: found, lambda kept: kept, "a type"),
    buffer=Number(of=SIZES), name=Text(),
)  # fmt: skip
