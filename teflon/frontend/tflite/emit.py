"""Write tables of the .tflite schema, described as Python values, as a flatbuffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from teflon.frontend.tflite import schema
from teflon.ir import Array

ALIGNMENT = 16
"""Alignment of constants in the file, as the schema's `force_align` wants it."""
_ALIGNED = ("Buffer", "CustomQuantization")

_NUMPY = {"i8": "i1", "u8": "u1", "i16": "i2", "u16": "u2", "i32": "i4", "u32": "u4", "i64": "i8",
          "u64": "u8", "f32": "f4", "f64": "f8", "bool": "?"}  # fmt: skip
_PREPEND = {"bool": "Bool", "i8": "Int8", "u8": "Uint8", "i16": "Int16", "u16": "Uint16",
            "i32": "Int32", "u32": "Uint32", "f32": "Float32", "i64": "Int64", "u64": "Uint64",
            "f64": "Float64"}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A table to write: `values` by field name; the code of a union follows from its table."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Embedded:
    """A table of type `name` that is encoded already, as the root of a small flatbuffer."""

    name: str
    data: bytes


def table(name: str, /, **values: Any) -> Table:
    """Return the description of a table; fields that are None are left out."""
    return Table(name, {k: v for k, v in values.items() if v is not None})


def finish(root: Table, identifier: bytes | None = schema.IDENTIFIER, size: int = 1024) -> bytes:
    """Return the flatbuffer of a table. `size` is a guess of its bytes that saves copies."""
    import flatbuffers  # reading does without it

    builder = flatbuffers.Builder(size)
    builder.Finish(_emit(builder, root), file_identifier=identifier)
    return bytes(builder.Output())


def _emit(b: Any, item: Table | Embedded) -> int:
    if isinstance(item, Embedded):
        return _embed(b, item.data)
    known = schema.fields(item.name)
    values = _with_union_codes(item.values)
    offsets = {
        name: _child(b, item.name, known[name], value)
        for name, value in values.items()
        if known[name].kind not in schema.SCALARS
    }
    b.StartObject(schema.slot_count(item.name))
    for name, value in values.items():
        about = known[name]
        if name in offsets:
            b.PrependUOffsetTRelativeSlot(about.slot, offsets[name], 0)
        else:
            prepend = getattr(b, f"Prepend{_PREPEND[about.kind]}Slot")
            prepend(about.slot, value, about.default)
    return int(b.EndObject())


def _with_union_codes(values: dict[str, Any]) -> dict[str, Any]:
    codes = {
        f"{name}_type": names.index(values[name].name)
        for name, names in schema.UNIONS.items()
        if name in values
    }
    return {**values, **codes}


def _child(b: Any, owner: str, about: schema.Field, value: Any) -> int:
    if about.kind == "string":
        return int(b.CreateString(value))
    if not about.is_vector:
        return _emit(b, value)
    if about.element in _NUMPY:
        array = np.ascontiguousarray(value, dtype="<" + _NUMPY[about.element]).reshape(-1)
        return _scalars(b, array, ALIGNMENT if owner in _ALIGNED else 1)
    if about.element == "string":
        return _offsets(b, [int(b.CreateString(text)) for text in value])
    return _offsets(b, [_emit(b, element) for element in value])


def _scalars(b: Any, array: Array, alignment: int) -> int:
    b.Prep(alignment, array.nbytes)
    return int(b.CreateNumpyVector(array))


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _embed(b: Any, data: bytes) -> int:
    """Copy a whole flatbuffer in: its inner offsets are relative, so it stays what it is."""
    padded = data + bytes(-len(data) % ALIGNMENT)
    b.Prep(ALIGNMENT, len(padded))
    b.head = b.head - len(padded)
    b.Bytes[b.head : b.head + len(padded)] = padded
    root = int.from_bytes(data[:4], "little")
    return int(b.Offset()) - root
