"""What a cut needs to know of tensors, each looked at when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Source, Table
from teflon.frontend.tflite.copying import vector
from teflon.frontend.tflite.flat import FlatFile
from teflon.ir import Array, DType

RESOURCES = ("HASHTABLE", "VAR_HANDLE")
"""Operators that name what others share."""


class TensorView:
    """One tensor of the file. Raises ModelError where its fields are wrong."""

    def __init__(self, flat: FlatFile, table: Table) -> None:
        self.flat = flat
        self.table = table
        self.is_variable: bool = table.get("is_variable")

    @cached_property
    def name(self) -> str:
        """The tensor's name; its number where it has none."""
        return self.table.text("name") or str(self.table.place)

    @cached_property
    def type_name(self) -> str:
        """The name of the element type in the schema."""
        code: int = self.table.get("type")
        if not 0 <= code < len(schema.TENSOR_TYPES):
            self.table.fail("type", f"is {code}, must be below {len(schema.TENSOR_TYPES)}")
        name: str = schema.TENSOR_TYPES[code]
        return name

    @property
    def dtype(self) -> DType:
        return schema.DTYPES.get(self.type_name, DType.OTHER)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return self.table.numbers("shape")

    @property
    def is_empty(self) -> bool:
        return 0 in self.shape

    @cached_property
    def buffer(self) -> int:
        """The number of the buffer; 0 for a tensor without content."""
        table, count = self.table, len(self.flat.buffers)
        if table.get("external_buffer"):
            table.fail("external_buffer", f"is {table.get('external_buffer')}, must be 0 (data in"
                       " another file is not read)")  # fmt: skip
        number: int = table.get("buffer")
        if number >= count and (number or table.has("buffer")):
            table.fail("buffer", f"is {number}, must be below {count}, the number of buffers")
        return number

    @cached_property
    def is_constant(self) -> bool:
        return content(self.flat, self.table.source, self.buffer, counted=False) is not None


def content(flat: FlatFile, source: Source, number: int, counted: bool = True) -> Array | None:
    """Return the bytes of a buffer, also of one behind the flatbuffer; None for an empty one."""
    if number >= len(flat.buffers):
        return None
    table = flat.buffer_table(source, number)
    inside = vector(table, "data") if counted else table.vector("data")
    if inside is not None and inside.size:
        return inside
    offset, size = table.get("offset"), table.get("size")
    if offset <= 1 or size == 0:  # 0 and 1 mean that there is none
        return None
    found: Array = source.array("u8", offset, size, table.at("offset"))
    if counted:
        source.charge(table.place, found.nbytes)
    return found


class Views:
    """The tensors of one cut by their numbers."""

    def __init__(self, flat: FlatFile, source: Source) -> None:
        self.flat = flat
        self.source = source
        self.has_resources = any(kind in RESOURCES for kind in flat.kinds)
        self._views: dict[int, TensorView] = {}
        self._clones: dict[int, int] = {}

    def __getitem__(self, number: int) -> TensorView:
        if number not in self._views:
            table = self.flat.tensor_table(self.source, *self.place(number))
            self._views[number] = TensorView(self.flat, table)
        return self._views[number]

    def place(self, number: int) -> tuple[int, int]:
        """Return subgraph and number in it."""
        return self.flat.places[self._clones.get(number, number)]

    def clone(self, number: int) -> int:
        """Return the number of another tensor that is described like this one."""
        new = self.flat.tensor_count + len(self._clones)
        self._clones[new] = number
        return new

    def sibling(self, number: int, local: int) -> int:
        """Return the number of a tensor that one of the same subgraph calls `local`."""
        base = self._clones.get(number, number) - self.place(number)[1]
        return self.flat.canonical(base + local)

    def names(self) -> Sequence[str]:
        """Return the names of tensors by number, for messages."""
        return _Names(self)


class _Names(Sequence[str]):
    def __init__(self, views: Views) -> None:
        self.views = views

    def __len__(self) -> int:
        return self.views.flat.tensor_count

    def __getitem__(self, number):  # type: ignore[no-untyped-def]
        return self.views[number].name
