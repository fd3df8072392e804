"""The subgraphs of a file: their tensors and operators, numbered through the whole file.

Tensors and operators of subgraph k come after all those of the subgraphs before it. A subgraph is
decoded only when it is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Source, Table
from teflon.frontend.tflite.emit import finish, table
from teflon.frontend.tflite.tensors import Tensor, read_tensors


@dataclass(frozen=True)
class Code:
    """A row of the operator codes: the operator's name, a custom one's own, and its version."""

    name: str
    version: int
    is_custom: bool


@dataclass(frozen=True, eq=False, repr=False)
class Operator:
    """One operator and the numbers of its tensors; -1 is an optional operand that is absent."""

    title: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    place: Place
    table: Table
    number: int
    code: Code

    @property
    def name(self) -> str:
        return self.code.name

    def options(self) -> tuple[str, dict[str, Any]]:
        """Return the options table's name and its fields; nothing for one that is not known."""
        for field in ("builtin_options", "builtin_options_2"):
            inner = self.table.child(field)
            if inner is not None:
                return inner.name, inner.decoded()
        return "", {}

    def encoded_options(self) -> tuple[str, bytes]:
        """Return the options table's name, and the options as a small flatbuffer of their own."""
        name, fields = self.options()
        return name, finish(table(name, **fields), None, 64) if name else b""

    def custom_options(self) -> bytes:
        """Return the bytes of a custom operator's options."""
        owner = self.table
        found = owner.vector("custom_options")
        if found is None or found.size == 0:
            offset = owner.get("large_custom_options_offset")
            size = owner.get("large_custom_options_size")
            place = owner.at("large_custom_options_offset")
            found = owner.source.array("u8", offset, size if offset > 1 else 0, place)
        owner.source.charge(self.place, found.nbytes)
        return found.tobytes()


@dataclass(frozen=True, eq=False, repr=False)
class Subgraph:
    """One subgraph; numbers of tensors are those of the whole file."""

    table: Table
    first: int
    tensors: Sequence[Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: Sequence[Operator]


class Subgraphs:
    """The subgraphs of one file, and the operator codes and buffers that they share."""

    def __init__(self, source: Source, model: Table) -> None:
        self.source = source
        self.model = model
        self._tables = list(model.children("subgraphs"))
        if not self._tables:
            model.fail("subgraphs", "has none, must have at least one")
        self._codes = [_code(t) for t in model.children("operator_codes")]
        self._buffers = list(model.children("buffers"))
        self._first = {
            field: [0, *itertools.accumulate(t.count(field) for t in self._tables)]
            for field in ("tensors", "operators")
        }
        self._known: dict[int, Subgraph] = {}

    def __getitem__(self, number: int) -> Subgraph:
        """Return a subgraph. Raises ModelError where something in it is wrong."""
        if number not in self._known:
            self._known[number] = self._read(number)
        return self._known[number]

    def named_by(self, operator: Operator, field: str, number: int) -> Subgraph:
        """Return the subgraph that an option of an operator names. Raises ModelError."""
        if not 0 <= number < len(self._tables):
            self.source.fail(
                operator.place, f"{field} is {number}, must be below {len(self._tables)}, the"
                " number of subgraphs"
            )  # fmt: skip
        return self[number]

    def _read(self, number: int) -> Subgraph:
        owner = self._tables[number]
        first = self._first["tensors"][number]
        tensors = read_tensors(owner, self._buffers, first)
        inputs, outputs = (_numbers(owner, f, tensors, first) for f in ("inputs", "outputs"))
        empty = Subgraph(owner, first, tensors, inputs, outputs, ())
        found = self._operators(empty, self._first["operators"][number])
        return replace(empty, operators=tuple(found))

    def _operators(self, part: Subgraph, first: int) -> Iterator[Operator]:
        for number, owner in enumerate(part.table.children("operators"), first):
            self.source.charge(owner.place, 32)
            at = owner.get("opcode_index")
            if at >= len(self._codes):
                owner.fail("opcode_index", f"is {at}, must be below {len(self._codes)}, the number"
                           " of operator codes")  # fmt: skip
            code = self._codes[at]
            inputs = _numbers(owner, "inputs", part.tensors, part.first, optional=True)
            outputs = _numbers(owner, "outputs", part.tensors, part.first)
            where = "without output"
            if outputs:
                where = part.tensors[outputs[0] - part.first].value.name
            title = f"{code.name} {where!r}"
            place = Place(owner.place, f" {title}")
            yield Operator(title, inputs, outputs, place, owner, number, code)


def _code(code: Table) -> Code:
    number = max(code.get("deprecated_builtin_code"), code.get("builtin_code"))
    version = code.get("version")
    if number < 0:
        code.fail("builtin_code", f"is {number}, must not be negative")
    if number >= len(schema.BUILTIN_OPERATORS):
        return Code(f"BUILTIN_{number}", version, False)
    if schema.BUILTIN_OPERATORS[number] != "CUSTOM":
        return Code(schema.BUILTIN_OPERATORS[number], version, False)
    custom = code.text("custom_code")
    if not custom:
        code.fail("custom_code", "is absent, must be the custom operator's name")
    return Code(custom, version, True)


def _numbers(
    owner: Table, field: str, tensors: Sequence[Tensor], first: int, optional: bool = False
) -> tuple[int, ...]:
    """Return the numbers of tensors that a field has, counted through the whole file."""
    found = owner.numbers(field)
    lowest = -1 if optional else 0
    for at, number in enumerate(found):
        if not lowest <= number < len(tensors):
            owner.fail(f"{field}[{at}]", f"is {number}, must be from {lowest} to"
                       f" {len(tensors) - 1}, a tensor's number")  # fmt: skip
    return tuple(-1 if number < 0 else first + number for number in found)
