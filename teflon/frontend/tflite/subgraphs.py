"""The subgraphs of a file as the reader walks through them: tensors, operators, what they call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Source, Table
from teflon.frontend.tflite.emit import finish, table
from teflon.frontend.tflite.flat import FlatFile, Row, check_numbers
from teflon.frontend.tflite.order import Wiring
from teflon.frontend.tflite.tensors import Tensor, read_tensor


@dataclass(frozen=True)
class Code:
    """A row of the operator codes: the operator's name, a custom one's own, and its version."""

    name: str
    version: int
    is_custom: bool


@dataclass(frozen=True, eq=False, repr=False)
class Operator(Wiring):
    """One operator; tensors and operators are numbered through the file as in `FlatFile`."""

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
    """One subgraph with the tensors that its operators read and make, by number."""

    table: Table
    tensors: dict[int, Tensor]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: Sequence[Operator]


class Subgraphs:
    """The subgraphs of one file. Raises ModelError where something in one is wrong."""

    def __init__(self, source: Source, model: Table) -> None:
        self.source = source
        self.codes = [_code(t) for t in model.children("operator_codes")]
        self.flat = FlatFile(Source(source.bytes, source.name))
        self._buffers = list(model.children("buffers"))

    def __len__(self) -> int:
        return len(self.flat.subgraphs)

    def main(self) -> Subgraph:
        """Return subgraph 0, composites replaced by what they consist of."""
        owner = self.flat.subgraph_table(self.source, 0)
        count = len(self.flat.subgraphs[0].tensors)
        ports = self._ports(owner, 0)
        mentioned = {t for row in self.flat.rows for t in (*row.inputs, *row.outputs)}
        mentioned |= {t for numbers in ports for t in numbers}
        tensors = self._tensors(sorted(mentioned.union(range(count)) - {-1}))
        rows = zip(self.flat.rows, self.flat.numbers, strict=True)
        operators = tuple(self._operator(row, number, tensors) for row, number in rows)
        return Subgraph(owner, tensors, ports[0], ports[1], operators)

    def called(self, operator: Operator, field: str) -> Subgraph:
        """Return the subgraph that an option of an operator names, as it is in the file."""
        number = operator.options()[1].get(field, 0)
        if not 0 <= number < len(self):
            self.source.fail(
                operator.place,
                f"{field} is {number}, must be below {len(self)}, the number of subgraphs",
            )
        sub = self.flat.subgraphs[number]
        owner = self.flat.subgraph_table(self.source, number)
        first = sub.first_tensor
        tensors = self._tensors(range(first, first + len(sub.tensors)))
        rows = [self.flat.plain_row(sub, local) for local in range(len(sub.operators))]
        ports = self._ports(owner, number)
        first = sub.first_operator
        operators = tuple(self._operator(row, n, tensors) for n, row in enumerate(rows, first))
        return Subgraph(owner, tensors, ports[0], ports[1], operators)

    def _tensors(self, numbers: Iterable[int]) -> dict[int, Tensor]:
        return {
            n: read_tensor(
                self.flat.tensor_table(self.source, *self.flat.places[n]), n, self._buffers
            )
            for n in numbers
        }

    def _ports(self, owner: Table, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the inputs and the outputs of a subgraph."""
        sub = self.flat.subgraphs[number]

        def numbers(field: str) -> tuple[int, ...]:
            found = owner.numbers(field)
            check_numbers(owner, field, found, 0, len(sub.tensors))
            return tuple(self.flat.canonical(sub.first_tensor + n) for n in found)

        return numbers("inputs"), numbers("outputs")

    def _operator(self, row: Row, number: int, tensors: Mapping[int, Tensor]) -> Operator:
        owner = self.flat.operator_table(self.source, row.subgraph, row.local)
        self.source.charge(owner.place, 64)
        code = self.codes[owner.get("opcode_index")]
        where = tensors[row.outputs[0]].value.name if row.outputs else "without output"
        title = f"{code.name} {where!r}"
        place = Place(owner.place, f" {title}")
        return Operator(title, row.inputs, row.outputs, place, owner, number, code)


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
