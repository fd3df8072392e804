"""C structs of kernel interfaces: their declarations pack, unpack and print the values.

    class FiniBo(Struct, size=8):
        handle: int = u32()
        reserved: int = u32()

Fields follow one another with C's natural alignment. If their sum is not the declared size, the
definition of the class fails. The layout is little endian and 64-bit, as on all supported boards.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, ClassVar, Self, dataclass_transform

from teflon.errors import FieldOverflow


@dataclass(frozen=True)
class Field:
    """One scalar or text: its code in the struct module, its default, its format, its place."""

    code: str
    default: int | bytes = 0
    hexadecimal: bool = False
    name: str = ""
    offset: int = 0
    alignment: int = 0  # 0: its size

    @property
    def size(self) -> int:
        return struct.calcsize("<" + self.code)

    def text(self, value: Any) -> str:
        return f"{self.name}={value:#x}" if self.hexadecimal else f"{self.name}={value}"


def u8(default: int = 0) -> Any:
    """Declare an unsigned 8-bit field."""
    return Field("B", default)


def u16(default: int = 0) -> Any:
    """Declare an unsigned 16-bit field."""
    return Field("H", default)


def u32(default: int = 0) -> Any:
    """Declare an unsigned 32-bit field."""
    return Field("I", default)


def s32(default: int = 0) -> Any:
    """Declare a signed 32-bit field."""
    return Field("i", default)


def u64(default: int = 0) -> Any:
    """Declare an unsigned 64-bit field."""
    return Field("Q", default)


def s64(default: int = 0) -> Any:
    """Declare a signed 64-bit field."""
    return Field("q", default)


def text(size: int) -> Any:
    """Declare an array of `size` characters; its value is bytes, filled up with zeros."""
    return Field(f"{size}s", b"", alignment=1)


def address(bits: int = 64) -> Any:
    """Declare a pointer or a device address of 32 or 64 bits; it is printed in hexadecimal."""
    return Field("I" if bits == 32 else "Q", 0, hexadecimal=True)


@dataclass_transform(kw_only_default=True)  # the declarations above count as plain defaults
class Struct:
    """The base of all declared structs. Instances are mutable: the kernel writes into them."""

    fields: ClassVar[tuple[Field, ...]] = ()
    size_bytes: ClassVar[int] = 0
    _layout: ClassVar[struct.Struct]
    _defaults: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls, size: int) -> None:
        fields: list[Field] = []
        end, code = 0, "<"
        for name, field in vars(cls).items():
            if not isinstance(field, Field):
                continue
            alignment = field.alignment or field.size
            offset = -(-end // alignment) * alignment
            code += "x" * (offset - end) + field.code
            fields.append(replace(field, name=name, offset=offset))
            end = offset + field.size
        if end != size:
            raise TypeError(f"{cls.__name__}: fields fill {end} bytes, must be {size}")
        cls.fields, cls.size_bytes, cls._layout = tuple(fields), size, struct.Struct(code)
        cls._defaults = {field.name: field.default for field in fields}

    def __init__(self, **values: int) -> None:
        self.__dict__.update(self._defaults, **values)  # instances have no other attributes
        if len(self.__dict__) > len(self._defaults):
            unknown = [name for name in values if name not in self._defaults]
            raise TypeError(f"{type(self).__name__} has no field {', '.join(unknown)}")

    def values(self) -> dict[str, int]:
        """Return all fields by name, in order."""
        return dict(self.__dict__)

    @classmethod
    def layout_of(cls, name: str) -> tuple[str, int]:
        """Return a field's code in the struct module and its offset. Raises KeyError."""
        found = {field.name: field for field in cls.fields}[name]
        return "<" + found.code, found.offset

    def pack(self) -> bytes:
        """Return the bytes. Raises FieldOverflow for a value that its field cannot hold."""
        try:
            return self._layout.pack(*self.__dict__.values())
        except struct.error as error:
            raise FieldOverflow(self._overflow()) from error

    def _overflow(self) -> str:
        for field in self.fields:
            value = getattr(self, field.name)
            if isinstance(value, bytes):
                continue
            signed = field.code.islower()
            bits = 8 * field.size - signed
            if not -(1 << bits if signed else 0) <= value < 1 << bits:
                kind = f"{'s' if signed else 'u'}{8 * field.size}"
                return f"{type(self).__name__}: {field.name} is {value}, must fit {kind}"
        return f"{type(self).__name__}: fields are {self.values()}, must be integers"

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Self:
        """Return the struct at the start of `data`; bytes that are missing at the end are zero."""
        whole = data if len(data) >= cls.size_bytes else bytes(data).ljust(cls.size_bytes, b"\0")
        new = cls.__new__(cls)
        new.__dict__.update(zip(cls._defaults, cls._layout.unpack_from(whole), strict=True))
        return new

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and isinstance(other, Struct)
            and (self.values() == other.values())
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return ", ".join(field.text(getattr(self, field.name)) for field in self.fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


def pack_array(structs: Iterable[Struct]) -> bytearray:
    """Return structs one after the other, as an array in C."""
    return bytearray(b"".join(s.pack() for s in structs))


@dataclass(frozen=True)
class Ioctl:
    """One request of a kernel interface; `direction` is "w" (into the kernel), "r" or "wr"."""

    name: str
    direction: str
    number: int
    struct: type[Struct]
    group: str = "d"  # every DRM request

    @cached_property
    def answers(self) -> bool:
        """Whether the kernel writes into the struct."""
        return "r" in self.direction

    @cached_property
    def takes(self) -> bool:
        """Whether the kernel reads the struct."""
        return "w" in self.direction

    @cached_property
    def request(self) -> int:
        """The request number for ioctl(2). Ref: Linux, include/uapi/asm-generic/ioctl.h."""
        direction = ("w" in self.direction) | ("r" in self.direction) << 1
        return direction << 30 | self.struct.size_bytes << 16 | ord(self.group) << 8 | self.number

    def text(self, argument: bytes | bytearray | memoryview) -> str:
        """Return the request and the fields of its argument as text, for messages."""
        return f"{self.name}({self.struct.unpack(argument)})"


@dataclass(frozen=True, slots=True)
class RequestFields:
    """The fields of a request number."""

    read: bool
    write: bool
    size: int
    group: int
    number: int


@cache
def request_fields(request: int) -> RequestFields:
    """Decode a request number."""
    return RequestFields(
        bool(request >> 31 & 1),
        bool(request >> 30 & 1),
        request >> 16 & 0x3FFF,
        request >> 8 & 0xFF,
        request & 0xFF,
    )


class Uapi:
    """The requests of one kernel driver, found by number."""

    def __init__(self, name: str, ioctls: Iterable[Ioctl]) -> None:
        self.name = name
        self.ioctls: Mapping[tuple[int, int], Ioctl] = {(ord(i.group), i.number): i for i in ioctls}

    def find(self, request: int) -> Ioctl | None:
        """Return the declaration of a request; None if it is not of this interface."""
        fields = request_fields(request)
        return self.ioctls.get((fields.group, fields.number))

    def decode(self, request: int, argument: bytes | bytearray | memoryview) -> str:
        """Return a request as text, also an undeclared one."""
        if found := self.find(request):
            return f"{self.name} {found.text(argument)}"
        fields = request_fields(request)
        direction = "w" * fields.write + "r" * fields.read or "-"
        return (
            f"{self.name} unknown ioctl {request:#010x} ({direction}, group {chr(fields.group)!r}, "
            f"number {fields.number:#x}, {fields.size} bytes: {bytes(argument[:64]).hex(' ', 8)})"
        )
