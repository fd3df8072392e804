"""Declarations of registers and descriptors, which pack, unpack, print and check their values.

A module that declares them must not use ``from __future__ import annotations``: the class of a
field (int, bool or an IntEnum) must exist at run time.

    class CNA(Block, target=0x0200):
        class CONV_CON3(Register, offset=0x1014):
            CONV_X_STRIDE: int = bits(2, 0)
            CONV_Y_STRIDE: int = bits(5, 3)

    CNA.CONV_CON3(CONV_X_STRIDE=2).pack() == 2
"""

import enum
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, Self, dataclass_transform

from teflon.errors import FieldOverflow

_WORD = 32


@dataclass(frozen=True)
class Field:
    """The place of a field, and the conversion between its value and the stored bits.

    `hi` and `lo` count from bit 0 of word `word`. Stored bits = value - `minus`, in two's
    complement if `signed`. `kind` is int, bool or an IntEnum.
    """

    name: str
    hi: int
    lo: int
    word: int
    minus: int
    signed: bool
    kind: type

    @cached_property
    def width(self) -> int:
        return self.hi - self.lo + 1

    @cached_property
    def mask(self) -> int:
        """The field's bits in its word."""
        return ((1 << self.width) - 1) << self.lo

    def encode(self, value: int, where: str) -> int:
        """Return the stored bits, at bit 0.

        Raises FieldOverflow; the text contains `where`, field, value and width.
        """
        number = int(value)
        stored = number - self.minus
        low = -(1 << (self.width - 1)) if self.signed else 0
        high = low + (1 << self.width) - 1
        if low <= stored <= high:
            return stored & ((1 << self.width) - 1)
        must = f"must fit {self.width} {'signed ' if self.signed else ''}bits"
        if self.minus:
            must += f" after {self.minus} is taken off"
        raise FieldOverflow(f"{where}: {self.name} is {number}, {must}")

    def decode(self, stored: int) -> Any:
        """Return the value of the stored bits; a number that the enum lacks stays a number."""
        if self.signed and stored >> (self.width - 1):
            stored -= 1 << self.width
        value = stored + self.minus
        if self.kind is int:
            return value
        try:
            return self.kind(value)
        except ValueError:
            return value


def bits(
    hi: int,
    lo: int | None = None,
    *,
    word: int = 0,
    minus: int = 0,
    signed: bool = False,
    default: int | None = None,
) -> Any:
    """Declare a field: bits `hi` down to `lo`, or with one number this many bits after the field
    before.

    `minus=1`: the hardware stores n - 1, Python code sees n. By default a field has the value that
    is stored as 0.
    """
    place = (hi, lo, word, minus, signed)
    start = minus if default is None else default
    return _Declaration(place, start)


@dataclass(frozen=True)
class _Declaration:
    """The value of a field's name in a class body; `_fields` makes the field from it."""

    place: tuple[int, int | None, int, int, bool]
    default: int


def _fields(cls: type) -> Iterator[Field]:
    """Yield the fields that a class body declares, in order, with their places."""
    at = 0
    for name, kind in vars(cls).get("__annotations__", {}).items():
        declaration = vars(cls).get(name)
        if not isinstance(declaration, _Declaration):
            continue
        if not isinstance(kind, type):
            raise TypeError(
                f"{cls.__qualname__}: the class of {name} is a string, must be a class"
                " (declare it in a module without `from __future__ import annotations`)"
            )
        hi, lo, word, minus, signed = declaration.place
        if lo is None:
            word, lo = divmod(at, _WORD)
            hi = lo + hi - 1
        if not 0 <= lo <= hi < _WORD:
            raise TypeError(
                f"{cls.__qualname__}: {name} takes bits {hi}:{lo}, must lie within one word"
            )
        at = word * _WORD + hi + 1
        yield Field(name, hi, lo, word, minus, signed, kind)


def _check_overlap(cls: type, fields: tuple[Field, ...]) -> None:
    """Raise TypeError if two fields share a bit."""
    taken: dict[int, str] = {}
    for field in fields:
        for bit in range(field.word * _WORD + field.lo, field.word * _WORD + field.hi + 1):
            if bit in taken:
                raise TypeError(
                    f"{cls.__qualname__}: {field.name} overlaps {taken[bit]} in bit {bit}"
                )
            taken[bit] = field.name


def _value_text(value: object) -> str:
    return value.name if isinstance(value, enum.Enum) else str(int(value))  # type: ignore[call-overload]


class Block:
    """A hardware unit with registers, which are nested classes; commands address it by `target`."""

    target: ClassVar[int]
    registers: ClassVar[tuple[type["Register"], ...]]

    def __init_subclass__(cls, *, target: int) -> None:
        cls.target = target
        own = [r for r in vars(cls).values() if isinstance(r, type) and issubclass(r, Register)]
        cls.registers = tuple(own)
        seen: dict[int, str] = {}
        for register in own:
            if register.offset < 0:
                raise TypeError(f"{cls.__name__}: {register.__name__} has no offset, must have one")
            if register.offset in seen:
                raise TypeError(
                    f"{cls.__name__}: {register.__name__} and {seen[register.offset]}"
                    f" are both at #{register.offset:04x}"
                )
            seen[register.offset] = register.__name__
            register.block = cls


# There are no field_specifiers, so that type checkers take `= bits(...)` for a default: every field
# has one.
@dataclass_transform(kw_only_default=True, frozen_default=True)
class _FieldStruct:
    """The base of registers and descriptors: immutable values of fields, given by keyword.

    It is used like a dataclass, but is not one: generating the methods of some hundred dataclasses
    would take most of the time to import them.
    """

    fields: ClassVar[tuple[Field, ...]] = ()
    _defaults: ClassVar[Mapping[str, int]] = {}

    @classmethod
    def _declare(cls, own: Iterable[Field]) -> None:
        """Add fields to the inherited ones; their defaults become attributes."""
        added = tuple(own)
        cls.fields = (*cls.fields, *added)
        defaults = {field.name: vars(cls)[field.name].default for field in added}
        for name, default in defaults.items():
            setattr(cls, name, default)
        cls._defaults = {**cls._defaults, **defaults}

    def __init__(self, **values: int) -> None:
        """Take values of fields by name. Raises TypeError for an unknown name."""
        mine = self.__dict__
        mine.update(self._defaults, **values)
        if len(mine) > len(self._defaults):
            unknown = [name for name in values if name not in self._defaults]
            raise TypeError(f"{type(self).__qualname__} has no field {', '.join(unknown)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__qualname__}: is immutable, make another one")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def _collect(self, where: str) -> dict[int, int]:
        """Return word index -> the bits of all its fields, for the words that are not 0."""
        words: dict[int, int] = {}
        values = self.__dict__
        for field in self.fields:
            value = values[field.name]
            if value != field.minus:  # faster: most fields are stored as 0
                stored = field.encode(value, where)
                words[field.word] = words.get(field.word, 0) | stored << field.lo
        return words

    def changed(self) -> dict[str, Any]:
        """Return the fields that are not stored as 0, by name."""
        values = {f: getattr(self, f.name) for f in self.fields}
        return {f.name: value for f, value in values.items() if int(value) != f.minus}


class Register(_FieldStruct):
    """One 32-bit register of a block.

    `rest` holds the bits that no field covers, so ``unpack(word).pack() == word`` for every word. A
    register may inherit the fields of another class; a class that is only a base needs no offset.
    """

    offset: ClassVar[int]
    block: ClassVar[type[Block]]
    covered: ClassVar[int]

    rest: int = 0
    _defaults: ClassVar[Mapping[str, int]] = {"rest": 0}

    def __init_subclass__(cls, *, offset: int = -1) -> None:
        cls.offset = offset
        cls._declare(_fields(cls))
        _check_overlap(cls, cls.fields)
        cls.covered = sum(f.mask for f in cls.fields)

    @classmethod
    def title(cls) -> str:
        """Return the name in messages: BLOCK.REGISTER."""
        block = getattr(cls, "block", None)
        return f"{block.__name__}.{cls.__name__}" if block else cls.__name__

    def pack(self) -> int:
        """Return the 32 bits. Raises FieldOverflow if a value does not fit its field."""
        return self._collect(self.title()).get(0, 0) | self.rest

    @classmethod
    def unpack(cls, word: int) -> Self:
        """Return the register of a 32-bit word; never raises."""
        values = {f.name: f.decode((word & f.mask) >> f.lo) for f in cls.fields}
        return cls(rest=word & ~cls.covered & 0xFFFFFFFF, **values)

    @classmethod
    def raw(cls, word: int) -> Self:
        """Return the register with these bits, declared or not; it may be negative (32 bits)."""
        return cls.unpack(word & 0xFFFFFFFF)

    def __str__(self) -> str:
        parts = [f"{name}={_value_text(value)}" for name, value in self.changed().items()]
        if self.rest:
            parts.append(f"rest=#{self.rest:08x}")
        return " ".join([self.title(), *parts])

    __repr__ = __str__


class RegisterMap:
    """The registers of several blocks, found by target and offset."""

    def __init__(self, *blocks: type[Block]) -> None:
        self.blocks = blocks
        self._by_place = {(b.target, r.offset): r for b in blocks for r in b.registers}
        self._by_target: Mapping[int, type[Block]] = MappingProxyType({b.target: b for b in blocks})

    def find(self, target: int, offset: int) -> type[Register] | None:
        """Return the register at an offset of the block with this target; None if there is none."""
        return self._by_place.get((target, offset))

    def block(self, target: int) -> type[Block] | None:
        """Return the block with this target; None if there is none."""
        return self._by_target.get(target)

    def __iter__(self) -> Iterator[type[Register]]:
        return iter(self._by_place.values())

    def __len__(self) -> int:
        return len(self._by_place)


class Descriptor(_FieldStruct):
    """A struct of 32-bit words that the hardware reads from memory.

    Fields follow one another from bit 0 (``bits(width)``) or have a place of their own
    (``bits(hi, lo, word=2)``). Together they must fill all words, and each must lie in one word.
    """

    words: ClassVar[int]

    def __init_subclass__(cls, *, words: int) -> None:
        cls.words = words
        cls._declare(_fields(cls))
        _check_overlap(cls, cls.fields)
        filled = sum(f.width for f in cls.fields)
        if filled != words * _WORD or any(f.word >= words for f in cls.fields):
            raise TypeError(f"{cls.__qualname__}: fields fill {filled} bits of {words * _WORD}")

    def pack(self) -> tuple[int, ...]:
        """Return the words. Raises FieldOverflow if a value does not fit its field."""
        collected = self._collect(type(self).__qualname__)
        return tuple(collected.get(i, 0) for i in range(self.words))

    def to_bytes(self) -> bytes:
        """Return the words as bytes, little endian."""
        return struct.pack(f"<{self.words}I", *self.pack())

    @classmethod
    def unpack(cls, words: "tuple[int, ...] | list[int]") -> Self:
        """Return the descriptor of 32-bit words; any content is valid."""
        values = {f.name: f.decode((words[f.word] & f.mask) >> f.lo) for f in cls.fields}
        return cls(**values)

    @classmethod
    def from_bytes(cls, data: "bytes | bytearray | memoryview") -> Self:
        """Return the descriptor at the start of `data`, little endian."""
        view = bytes(data[: 4 * cls.words])
        return cls.unpack(
            [int.from_bytes(view[i : i + 4], "little") for i in range(0, len(view), 4)]
        )

    def __str__(self) -> str:
        parts = [f"{name}={_value_text(value)}" for name, value in self.changed().items()]
        return " ".join([type(self).__qualname__, *parts])

    __repr__ = __str__
