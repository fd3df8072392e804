"""What the fields of binary files must be, declared once: for writing, reading and checking.

    RELOCS = Table("reloc", Reloc,
                   buffer=Number(of=BUFFERS), offset=Inside("buffer", FILLED, width=8, step=8),
                   target=Number(of=BUFFERS), addend=Inside("target", SIZES))

A table has one row for each object of a dataclass or named tuple, in JSON or in an array of int64.
`Table.write` makes the rows, `Table.read` checks them and makes the objects. Columns are checked
whole, before any loop over what they count. `scope` holds the sizes of what fields refer to.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

Rows = npt.NDArray[np.int64]
Column = Any
"""The values of one field in all rows, at least one: a sequence of JSON values, or an array."""
Scope = Mapping[str, Rows]
"""Name of what fields refer to -> the sizes of all things of that name."""

LARGEST = (1 << 63) - 1
"""The largest number that a file may hold."""
_SHOWN = 40


class Malformed(ValueError):
    """A file is not what its format says; the text says where, what is and what must be."""


class Field:
    """What a field of a table must be. Subclasses say how one that is wrong is found."""

    @abstractmethod
    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        """Whether a value of a column is not what it must be; `columns` are those before it too."""

    @abstractmethod
    def must(self, scope: Scope) -> str:
        """Return what a value must be, after "must be"."""

    def objects(self, column: Column) -> Sequence[Any]:
        """Return the values of a column that is right as objects have them."""
        found: Sequence[Any] = column.tolist() if isinstance(column, np.ndarray) else column
        return found

    def plain(self, value: Any) -> Any:
        """Return an object's value as JSON."""
        return value


@dataclass(frozen=True)
class Number(Field):
    """A whole number from low to high, a multiple of step; or the number of one thing in a scope:
    below their count.
    """

    low: int = 0
    high: int = LARGEST
    step: int = 1
    of: str = ""

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if not _whole(column):
            return True
        low, high = _ends(column)
        return low < self.low or high > self._high(scope) or _off(column, self.step)

    def _high(self, scope: Scope) -> int:
        return min(self.high, len(scope[self.of]) - 1) if self.of else self.high

    def must(self, scope: Scope) -> str:
        multiple = f", a multiple of {self.step}" if self.step > 1 else ""
        return f"a whole number from {self.low} to {self._high(scope)}{multiple}"


@dataclass(frozen=True)
class Inside(Field):
    """A byte offset, a multiple of step, in a thing of `scope[sizes]` that field `which` names:
    what begins there ends inside.

    width: its size in bytes, or those of one element of as many as field `count` says.
    """

    which: str
    sizes: str
    width: int = 1
    step: int = 1
    count: str = ""

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if not _whole(column):
            return True
        low, high = _ends(column)
        if low < 0 or high > LARGEST or _off(column, self.step):
            return True
        left = scope[self.sizes][np.asarray(columns[self.which])] - np.asarray(column, np.int64)
        taken: Any = self.width
        if self.count:
            if not _whole(columns[self.count]) or _ends(columns[self.count])[1] > LARGEST:
                return True
            counts = np.asarray(columns[self.count], np.int64)
            left, taken = left // self.width, counts
        return bool((left < taken).any())

    def must(self, scope: Scope) -> str:
        many = f" for each of its {self.count}" if self.count else ""
        multiple = f", a multiple of {self.step}" if self.step > 1 else ""
        return f"a place in its {self.which} with {self.width} bytes behind it{many}{multiple}"


@dataclass(frozen=True)
class Real(Field):
    """A number from low to high, not NaN; both may be infinite."""

    low: float
    high: float

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if not set(map(type, column)) <= {int, float}:
            return True
        return not all(self.low <= value <= self.high for value in column)

    def must(self, scope: Scope) -> str:
        return f"a number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Text(Field):
    """Text that can be printed as UTF-8; one of some choices, if there are any."""

    choices: tuple[str, ...] = ()

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if set(map(type, column)) != {str}:
            return True
        if self.choices:
            return not set(column) <= set(self.choices)
        return not _printable("".join(column))

    def must(self, scope: Scope) -> str:
        return f"one of {', '.join(self.choices)}" if self.choices else "text"


@dataclass(frozen=True)
class Code(Number):
    """Text that is stored as its place in a list of names."""

    names: tuple[str, ...] = ()

    def _high(self, scope: Scope) -> int:
        return len(self.names) - 1

    def objects(self, column: Column) -> Sequence[Any]:
        return [self.names[number] for number in super().objects(column)]

    def plain(self, value: Any) -> Any:
        return self.names.index(value)


@dataclass(frozen=True)
class Flag(Field):
    """True or false."""

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        return set(map(type, column)) != {bool}

    def must(self, scope: Scope) -> str:
        return "true or false"


@dataclass(frozen=True)
class Each(Field):
    """A list of values that are all alike."""

    of: Field

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if not set(map(type, column)) <= {list, tuple}:
            return True
        every = list(itertools.chain.from_iterable(column))
        return bool(every) and self.of.wrong(every, scope, columns)

    def must(self, scope: Scope) -> str:
        return f"a list, each {self.of.must(scope)}"

    def objects(self, column: Column) -> Sequence[Any]:
        return [tuple(self.of.objects(value)) if value else () for value in column]

    def plain(self, value: Any) -> Any:
        return [self.of.plain(one) for one in value]


@dataclass(frozen=True)
class Pair(Field):
    """Two values of different kinds."""

    first: Field
    second: Field

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if not set(map(type, column)) <= {list, tuple} or set(map(len, column)) != {2}:
            return True
        first, second = zip(*column, strict=True)
        return self.first.wrong(first, scope, columns) or self.second.wrong(second, scope, columns)

    def must(self, scope: Scope) -> str:
        return f"({self.first.must(scope)}; {self.second.must(scope)})"

    def objects(self, column: Column) -> Sequence[Any]:
        return list(map(tuple, column))


@dataclass(frozen=True)
class Read(Field):
    """A value with a form of its own.

    read: returns the object of some JSON, raises Malformed; its text is what is wrong. write: the
    other way.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    title: str

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        for value in column:
            self.read(value)
        return False

    def must(self, scope: Scope) -> str:
        return self.title

    def objects(self, column: Column) -> Sequence[Any]:
        return list(map(self.read, column))

    def plain(self, value: Any) -> Any:
        return self.write(value)


class Table(Generic[T]):
    """Rows of one kind; `title` is what messages call a row."""

    def __init__(self, title: str, kind: Callable[..., T], /, **fields: Field) -> None:
        """kind: takes the fields in this order."""
        self.title, self.kind, self.fields = title, kind, fields

    def write(self, objects: Sequence[T]) -> list[list[Any]]:
        """Return objects as rows of JSON."""
        items = self.fields.items()
        return [[field.plain(getattr(one, name)) for name, field in items] for one in objects]

    def write_named(self, objects: Sequence[T]) -> list[dict[str, Any]]:
        """Return objects as JSON with the names of fields."""
        return [dict(zip(self.fields, row, strict=True)) for row in self.write(objects)]

    def array(self, objects: Sequence[T]) -> Rows:
        """Return objects as an array; all fields must be whole numbers."""
        return np.array(self.write(objects), "<i8").reshape(-1, len(self.fields))

    def read(self, rows: Any, scope: Scope | None = None) -> list[T]:
        """Return the objects of what `write`, `write_named` or `array` made.

        Raises Malformed for the first row that is wrong.
        """
        columns = self._columns(rows)
        if not columns:
            return []
        for name, field in self.fields.items():
            try:
                bad = field.wrong(columns[name], scope or {}, columns)
            except Malformed as error:
                raise Malformed(f"a {self.title}: {name}: {error}") from error
            if bad:
                raise Malformed(self._complaint(name, columns, scope or {}))
        found = [field.objects(columns[name]) for name, field in self.fields.items()]
        return list(map(self.kind, *found))

    def _columns(self, rows: Any) -> dict[str, Column]:
        """Return the columns by name; none without rows. Raises Malformed for another shape."""
        count = len(self.fields)
        if isinstance(rows, np.ndarray):
            if rows.dtype != np.dtype("<i8") or rows.ndim != 2 or rows.shape[1] != count:
                have = f"{rows.dtype}{list(rows.shape)}"
                raise Malformed(f"{self.title}s are {have}, must be int64 of {count} columns")
            return dict(zip(self.fields, rows.T, strict=True)) if len(rows) else {}
        if type(rows) is not list:
            raise Malformed(f"{self.title}s are {shown(rows)}, must be a list")
        if all(type(row) is dict and row.keys() == self.fields.keys() for row in rows):
            return {name: [row[name] for row in rows] for name in self.fields} if rows else {}
        if any(type(row) is not list or len(row) != count for row in rows):
            raise Malformed(f"a {self.title} has other fields, must have {', '.join(self.fields)}")
        return dict(zip(self.fields, map(list, zip(*rows, strict=True)), strict=True))

    def _complaint(self, name: str, columns: Mapping[str, Column], scope: Scope) -> str:
        """Return the message about the first value of a column that is wrong."""
        field, number = self.fields[name], 0
        for number in range(len(columns[name])):
            row = {n: column[number : number + 1] for n, column in columns.items()}
            if field.wrong(row[name], scope, row):
                break
        value = columns[name][number]
        must = field.must(scope)
        return f"{self.title} {number}: {name} is {shown(value)}, must be {must}"


def shown(value: object) -> str:
    """Return a value of a file for a message: short, in one line."""
    text = str(value) if isinstance(value, np.generic) else ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _whole(column: Column) -> bool:
    return isinstance(column, np.ndarray) or set(map(type, column)) == {int}


def _ends(column: Column) -> tuple[int, int]:
    if isinstance(column, np.ndarray):
        return int(column.min()), int(column.max())
    return min(column), max(column)


def _off(column: Column, step: int) -> bool:
    """Whether a value is no multiple of a step; all fit into int64."""
    return step > 1 and bool((np.asarray(column, np.int64) % step).any())


def _printable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
