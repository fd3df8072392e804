"""Read tables of a flatbuffer that may be damaged: every offset is checked before it is followed.

A file may refer to the same bytes from many places, so that a short file describes a huge model.
The bytes that are decoded into Python objects are therefore counted, and must stay below a small
multiple of the file's size. No sensible writer comes near that limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from teflon.errors import ModelError
from teflon.frontend.tflite import schema
from teflon.ir import Array

DECODED_PER_BYTE = 2
"""How many bytes may be decoded for each byte of the file (real ones need up to 0.8)..."""
DECODED_FREE = 4096
"""...beyond this many."""

_FORMATS = {"bool": "<?", "i8": "<b", "u8": "<B", "i16": "<h", "u16": "<H", "i32": "<i",
            "u32": "<I", "i64": "<q", "u64": "<Q", "f32": "<f", "f64": "<d"}  # fmt: skip
_SCALARS = {kind: struct.Struct(text) for kind, text in _FORMATS.items()}
_NUMPY = {kind: np.dtype(text.replace("b", "i1").replace("B", "u1")) for kind, text in
          _FORMATS.items() if kind != "bool"} | {"bool": np.dtype("u1")}  # fmt: skip
_U32 = _SCALARS["u32"]
_I32 = _SCALARS["i32"]


class Source:
    """The bytes of one file and its name in messages."""

    def __init__(self, data: Any, name: str) -> None:
        self.bytes = memoryview(data).cast("B").toreadonly()
        self.size = len(self.bytes)
        self.name = name or "model"
        self._left = DECODED_PER_BYTE * self.size + DECODED_FREE

    def fail(self, where: object, text: str) -> NoReturn:
        raise ModelError(f"{self.name}: {where}: {text}")

    def charge(self, where: object, count: int) -> None:
        """Count bytes that are about to be decoded."""
        self._left -= count
        if self._left < 0:
            self.fail(where, "the file refers to the same bytes again and again, must use each"
                      " about once (it describes more than it can hold)")  # fmt: skip

    def u32(self, position: int, where: object) -> int:
        if position + 4 > self.size:
            self.fail(where, f"4 bytes at offset {position}, must end within {self.size} bytes")
        return int(_U32.unpack_from(self.bytes, position)[0])

    def check(self, position: int, count: int, width: int, where: object) -> None:
        """Refuse elements that end behind the file."""
        end = position + count * width
        if end > self.size:
            self.fail(
                where,
                f"{count} elements at offset {position} end at {end},"
                f" must end within {self.size} bytes",
            )

    def array(self, kind: str, position: int, count: int, where: object) -> Array:
        """Return a read-only view of `count` scalars, without a copy."""
        dtype = _NUMPY[kind]
        self.check(position, count, dtype.itemsize, where)
        return np.frombuffer(self.bytes, dtype, count, position)


class Place:
    """Where in the file something is; becomes text only when there is an error to tell."""

    __slots__ = ("label", "parent")

    def __init__(self, parent: object, label: str) -> None:
        self.parent = parent
        self.label = label

    def __str__(self) -> str:
        before = str(self.parent) if self.parent is not None else ""
        if not before or self.label.startswith(("[", " ")):
            return before + self.label
        return f"{before}/{self.label}"


class Table:
    """One table at a position; reads its fields by their names in the schema."""

    __slots__ = ("_fields", "_offsets", "_size", "name", "place", "position", "source")

    def __init__(self, source: Source, position: int, name: str, place: object) -> None:
        self.source = source
        self.position = position
        self.name = name
        self.place = place
        self._fields = schema.fields(name)
        source.charge(place, 8)
        self._offsets, self._size = self._vtable()

    def _vtable(self) -> tuple[tuple[int, ...], int]:
        source, data = self.source, self.source.bytes
        if self.position + 4 > source.size:
            source.fail(self.place, f"table at offset {self.position}, must lie within"
                        f" {source.size} bytes")  # fmt: skip
        start = self.position - _I32.unpack_from(data, self.position)[0]
        if start < 0 or start + 4 > source.size:
            source.fail(self.place, f"vtable at offset {start}, must lie within {source.size}"
                        " bytes")  # fmt: skip
        length, size = struct.unpack_from("<HH", data, start)
        if length < 4 or length % 2 or start + length > source.size:
            source.fail(self.place, f"vtable of {length} bytes at offset {start}, must be even, at"
                        f" least 4 and end within {source.size} bytes")  # fmt: skip
        if size < 4 or self.position + size > source.size:
            source.fail(self.place, f"table of {size} bytes at offset {self.position}, must have at"
                        f" least 4 and end within {source.size} bytes")  # fmt: skip
        count = min(length // 2 - 2, schema.slot_count(self.name))
        return struct.unpack_from(f"<{count}H", data, start + 4), size

    def at(self, field: str) -> Place:
        """Return the place of a field."""
        return Place(self.place, field)

    def fail(self, field: str, text: str) -> NoReturn:
        """Raise ModelError for the content of a field."""
        self.source.fail(self.at(field), text)

    def has(self, field: str) -> bool:
        slot = self._fields[field].slot
        return slot < len(self._offsets) and self._offsets[slot] != 0

    def unknown_slot(self) -> int | None:
        """Return the first slot with content that the schema does not have; None without one."""
        data, known = self.source.bytes, schema.slot_count(self.name)
        start = self.position - _I32.unpack_from(data, self.position)[0]
        count = struct.unpack_from("<H", data, start)[0] // 2 - 2 - known
        if count <= 0:
            return None
        slots = np.frombuffer(data, "<u2", count, start + 4 + 2 * known)
        used = np.flatnonzero(slots)
        return known + int(used[0]) if used.size else None

    def _position(self, about: schema.Field, width: int) -> int | None:
        slot = about.slot
        offset = self._offsets[slot] if slot < len(self._offsets) else 0
        if offset == 0:
            return None
        if offset < 4 or offset + width > self._size:
            self.fail(about.name, f"lies at byte {offset} of a table of {self._size} bytes,"
                      " must lie inside it")  # fmt: skip
        return self.position + offset

    def get(self, field: str) -> Any:
        """Return a scalar field, its default where the file leaves it out."""
        about = self._fields[field]
        form = _SCALARS[about.kind]
        position = self._position(about, form.size)
        if position is None:
            return about.default if about.kind != "bool" else bool(about.default)
        return form.unpack_from(self.source.bytes, position)[0]

    def _target(self, about: schema.Field) -> int | None:
        position = self._position(about, 4)
        if position is None:
            return None
        return position + int(_U32.unpack_from(self.source.bytes, position)[0])

    def vector(self, field: str) -> Array | None:
        """Return a vector of scalars as a read-only view; None where the file leaves it out."""
        about = self._fields[field]
        start = self._target(about)
        if start is None:
            return None
        count = self.source.u32(start, Place(self.place, field))
        return self.source.array(about.element, start + 4, count, Place(self.place, field))

    def numbers(self, field: str) -> tuple[Any, ...]:
        """Return a vector of scalars as Python numbers; empty where the file leaves it out."""
        about = self._fields[field]
        start = self._target(about)
        if start is None:
            return ()
        source, place = self.source, Place(self.place, field)
        count = source.u32(start, place)
        form = _SCALARS[about.element]
        source.check(start + 4, count, form.size, place)
        source.charge(place, count * form.size)
        return struct.unpack_from(f"<{count}{form.format[1:]}", source.bytes, start + 4)

    def text(self, field: str) -> str:
        r"""Return a string; bytes that are not UTF-8 become \xNN; empty where it is left out."""
        start = self._target(self._fields[field])
        return "" if start is None else self._text(start, field)

    def raw_text(self, field: str) -> bytes:
        """Return a string's bytes as they are in the file; empty where it is left out."""
        start = self._target(self._fields[field])
        return b"" if start is None else self._raw_text(start, field)

    def _text(self, start: int, field: str) -> str:
        return self._raw_text(start, field).decode("utf-8", "backslashreplace")

    def _raw_text(self, start: int, field: str) -> bytes:
        place = Place(self.place, field)
        raw = self.source.array("u8", start + 4, self.source.u32(start, place), place)
        self.source.charge(place, raw.nbytes)
        return raw.tobytes()

    def child(self, field: str) -> Table | None:
        """Return a table, also a union's; None where the file leaves it out or has NONE."""
        about = self._fields[field]
        start = self._target(about)
        if start is None:
            return None
        name = self.union(field) if about.kind == "union" else about.kind
        return None if name in ("", "NONE") else Table(self.source, start, name, self.at(field))

    def union(self, field: str) -> str:
        """Return the name of the table in a union; empty for one that the schema does not have."""
        names = schema.UNIONS[field]
        code = self.get(f"{field}_type")
        return names[code] if code < len(names) else ""

    def _elements(self, field: str) -> list[int]:
        """Return the positions that a vector of offsets points at."""
        start = self._target(self._fields[field])
        if start is None:
            return []
        place = Place(self.place, field)
        count = self.source.u32(start, place)
        offsets = self.source.array("u32", start + 4, count, place)
        self.source.charge(place, offsets.nbytes)
        return [start + 4 + 4 * i + n for i, n in enumerate(offsets.tolist())]

    def children(self, field: str) -> Iterator[Table]:
        """Yield the tables of a vector of tables."""
        name = self._fields[field].element
        at = self.at(field)
        for number, position in enumerate(self._elements(field)):
            yield Table(self.source, position, name, Place(at, f"[{number}]"))

    def decoded(self) -> dict[str, Any]:
        """Return every field that the file has as Python values, tables as their own dicts.

        Tables of unions are there under the union's name; texts, vectors as tuples of numbers.
        """
        return {name: self._value(about) for name, about in self._fields.items() if self.has(name)}

    def _value(self, about: schema.Field) -> Any:
        name = about.name
        if about.kind in _SCALARS:
            return self.get(name)
        if about.kind == "string":
            return self.text(name)
        if not about.is_vector:
            inner = self.child(name)
            return None if inner is None else inner.decoded()
        if about.element in _SCALARS:
            return self.numbers(name)
        if about.element == "string":
            return tuple(self._text(position, name) for position in self._elements(name))
        return tuple(inner.decoded() for inner in self.children(name))
