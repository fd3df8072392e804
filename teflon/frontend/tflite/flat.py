"""The operators of a .tflite file as one list, with composites replaced by what they consist of.

Tensors and operators are numbered through all subgraphs: those of a subgraph come after those of
the subgraphs before it. A decomposition that several composites use stands in the list for each of
them; the first has the numbers of the file, the others have numbers beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Source, Table

COMPOSITE = "STABLEHLO_COMPOSITE"
MOST_DEEP = 64
"""So many composites may stand inside each other; those further inside stay as they are."""
_ROW_BYTES = 32


@dataclass(frozen=True, eq=False, repr=False)
class Subgraph:
    """Where the parts of a subgraph lie in the file."""

    number: int
    position: int
    place: Place
    tensors: tuple[int, ...]
    operators: tuple[int, ...]
    first_tensor: int
    first_operator: int


@dataclass(frozen=True, eq=False, repr=False)
class Row:
    """One operator of the list; `inputs` and `outputs` are numbers of the list's tensors."""

    kind: str
    subgraph: int
    local: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]


@dataclass(eq=False, repr=False)
class FlatFile:
    """The structure of a file, found once; tables are opened where something is read from them.

    A composite that consists of operators with variable tensors stays an operator. TFLite forgets
    these when it leaves a subgraph, while those of subgraph 0 last from one run to the next.

    # Ref: LiteRT 2.3, tflite/kernels/stablehlo_composite.cc, if.cc and while.cc (Eval frees the
    # memory of what it called); measured: a second run of an SVDF in each of them

    Raises ModelError where numbers of subgraph 0 or of a decomposition are wrong.
    """

    source: Source
    kinds: list[str] = field(init=False)
    subgraphs: list[Subgraph] = field(init=False)
    buffers: tuple[int, ...] = field(init=False)
    codes: tuple[int, ...] = field(init=False)
    rows: list[Row] = field(init=False, default_factory=list)
    operator_rows: dict[int, list[int]] = field(init=False, default_factory=dict)
    """Number of an operator -> its rows; those of the decomposition for a composite."""
    numbers: list[int] = field(init=False, default_factory=list)
    """The number of each row's operator; that of another row of the same operator lies beyond those
    of the file.
    """
    alias: dict[int, int] = field(init=False, default_factory=dict)
    """Tensor of a decomposition's end -> the tensor outside that it is."""
    places: dict[int, tuple[int, int]] = field(init=False, default_factory=dict)
    """Number of a tensor -> subgraph and number in it."""
    makers: dict[int, int] = field(init=False, default_factory=dict)
    """Tensor -> the row that makes it."""
    tensor_count: int = field(init=False, default=0)
    """Numbers of tensors are below it."""

    def __post_init__(self) -> None:
        model = Table(self.source, self.source.u32(0, "root"), "Model", Place(None, ""))
        codes = list(model.children("operator_codes"))
        self.codes = tuple(t.position for t in codes)
        self.kinds = [_kind(t) for t in codes]
        self.buffers = tuple(t.position for t in model.children("buffers"))
        self.subgraphs = []
        tensors = operators = 0
        for number, table in enumerate(model.children("subgraphs")):
            found = Subgraph(
                number,
                table.position,
                Place(None, f"subgraphs[{number}]"),
                tuple(t.position for t in table.children("tensors")),
                tuple(t.position for t in table.children("operators")),
                tensors,
                operators,
            )
            self.subgraphs.append(found)
            tensors += len(found.tensors)
            operators += len(found.operators)
        if not self.subgraphs:
            model.fail("subgraphs", "has none, must have at least one")
        for sub in self.subgraphs:
            for local in range(len(sub.tensors)):
                self.places[sub.first_tensor + local] = (sub.number, local)
        self.tensor_count, self._operator_count = tensors, operators
        self._inlined: set[int] = set()
        self._variables: dict[int, bool] = {}
        self._add(self.subgraphs[0], 0, (0,))
        self.rows = [self._canonical_row(row) for row in self.rows]
        self.makers = {t: number for number, row in enumerate(self.rows) for t in row.outputs}

    # Tables --------------------------------------------------------------------------------

    def subgraph_table(self, source: Source, number: int) -> Table:
        sub = self.subgraphs[number]
        return Table(source, sub.position, "SubGraph", sub.place)

    def tensor_table(self, source: Source, subgraph: int, local: int) -> Table:
        sub = self.subgraphs[subgraph]
        return Table(source, sub.tensors[local], "Tensor", Place(sub.place, f"tensors[{local}]"))

    def operator_table(self, source: Source, subgraph: int, local: int) -> Table:
        sub = self.subgraphs[subgraph]
        place = Place(sub.place, f"operators[{local}]")
        return Table(source, sub.operators[local], "Operator", place)

    def buffer_table(self, source: Source, number: int) -> Table:
        return Table(source, self.buffers[number], "Buffer", Place(None, f"buffers[{number}]"))

    def code_table(self, source: Source, number: int) -> Table:
        place = Place(None, f"operator_codes[{number}]")
        return Table(source, self.codes[number], "OperatorCode", place)

    def kind_of(self, operator: Table) -> str:
        """Return the name of an operator. Raises ModelError for a code that the file has not."""
        code = operator.get("opcode_index")
        if code >= len(self.kinds):
            operator.fail("opcode_index", f"is {code}, must be below {len(self.kinds)}, the number"
                          " of operator codes")  # fmt: skip
        kind: str = self.kinds[code]
        return kind

    def canonical(self, tensor: int) -> int:
        """Return the tensor outside decompositions that a tensor is."""
        while tensor in self.alias:
            tensor = self.alias[tensor]
        return tensor

    def plain_row(self, sub: Subgraph, local: int) -> Row:
        """Return an operator of a subgraph as it is in the file."""
        operator = self.operator_table(self.source, sub.number, local)
        return self._row(operator, sub, local, sub.first_tensor)

    # The list ------------------------------------------------------------------------------

    def _add(self, sub: Subgraph, base: int, path: tuple[int, ...]) -> list[int]:
        """Add the operators of a subgraph; `base` is the number of its first tensor."""
        added: list[int] = []
        for local in range(len(sub.operators)):
            self.source.charge(sub.place, _ROW_BYTES)
            operator = self.operator_table(self.source, sub.number, local)
            row = self._row(operator, sub, local, base)
            inner = self._decomposition(operator, row, path)
            if inner is None:
                added.append(len(self.rows))
                self._append(row, sub.first_operator + local)
            else:
                rows = self._inline(inner, row, path)
                added += rows
                self.operator_rows.setdefault(sub.first_operator + local, []).extend(rows)
        return added

    def _append(self, row: Row, number: int) -> None:
        """Add a row; one of a repeated decomposition gets a number beyond those of the file."""
        if number in self.operator_rows:
            number = self._operator_count + len(self.rows)
        self.operator_rows[number] = [len(self.rows)]
        self.numbers.append(number)
        self.rows.append(row)

    def _row(self, operator: Table, sub: Subgraph, local: int, base: int) -> Row:
        def numbers(field: str, lowest: int) -> tuple[int, ...]:
            found = operator.numbers(field)
            check_numbers(operator, field, found, lowest, len(sub.tensors))
            return tuple(base + n if n >= 0 else -1 for n in found)

        return Row(
            self.kind_of(operator),
            sub.number,
            local,
            numbers("inputs", -1),
            numbers("outputs", 0),
            numbers("intermediates", -1),
        )

    def _decomposition(self, operator: Table, row: Row, path: tuple[int, ...]) -> Subgraph | None:
        """Return the subgraph that a composite consists of, if it can stand in its place."""
        if row.kind != COMPOSITE or operator.union("builtin_options_2") != _OPTIONS:
            return None
        options = operator.child("builtin_options_2")
        number = -1 if options is None else options.get("decomposition_subgraph_index")
        if not 0 <= number < len(self.subgraphs) or number in path or len(path) > MOST_DEEP:
            return None
        if self._has_variables(number):
            return None
        inner = self.subgraph_table(self.source, number)
        ends = len(inner.numbers("inputs")), len(inner.numbers("outputs"))
        if ends != (len(row.inputs), len(row.outputs)):
            return None
        return self.subgraphs[number]

    def _has_variables(self, number: int) -> bool:
        if number not in self._variables:
            count = range(len(self.subgraphs[number].tensors))
            tables = (self.tensor_table(self.source, number, local) for local in count)
            self._variables[number] = any(table.get("is_variable") for table in tables)
        return self._variables[number]

    def _inline(self, sub: Subgraph, row: Row, path: tuple[int, ...]) -> list[int]:
        base = sub.first_tensor
        if sub.number in self._inlined:
            base = self.tensor_count
            for local in range(len(sub.tensors)):
                self.source.charge(sub.place, _ROW_BYTES)
                self.places[base + local] = (sub.number, local)
            self.tensor_count += len(sub.tensors)
        self._inlined.add(sub.number)
        table = self.subgraph_table(self.source, sub.number)
        inputs, outputs = table.numbers("inputs"), table.numbers("outputs")
        check_numbers(table, "inputs", inputs, 0, len(sub.tensors))
        check_numbers(table, "outputs", outputs, 0, len(sub.tensors))
        for inside, outside in zip(inputs, row.inputs, strict=True):
            if outside >= 0 and base + inside not in self.alias:
                self._is(base + inside, outside)
        rows = self._add(sub, base, (*path, sub.number))
        made = {self.canonical(t) for n in rows for t in self.rows[n].outputs}
        for inside, outside in zip(outputs, row.outputs, strict=True):
            if base + inside in made and base + inside not in self.alias:
                self._is(base + inside, outside)
            else:
                self._is(outside, base + inside)
        return rows

    def _canonical_row(self, row: Row) -> Row:
        def all_of(numbers: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(self.canonical(n) for n in numbers)

        return replace(
            row,
            inputs=all_of(row.inputs),
            outputs=all_of(row.outputs),
            intermediates=all_of(row.intermediates),
        )

    def _is(self, tensor: int, other: int) -> None:
        other = self.canonical(other)
        if self.canonical(tensor) != other:
            self.alias[tensor] = other


_OPTIONS = "StableHLOCompositeOptions"


def check_numbers(
    table: Table, field: str, numbers: Sequence[int], lowest: int, count: int
) -> None:
    """Raise ModelError unless all are from `lowest` to below `count`."""
    for at, number in enumerate(numbers):
        if not lowest <= number < count:
            table.fail(f"{field}[{at}]", f"is {number}, must be from {lowest} to {count - 1}, a"
                       " tensor's number")  # fmt: skip


def _kind(code: Table) -> str:
    number: int = max(code.get("deprecated_builtin_code"), code.get("builtin_code"))
    if not 0 <= number < len(schema.BUILTIN_OPERATORS):
        return f"BUILTIN_{number}"
    name: str = schema.BUILTIN_OPERATORS[number]
    if name == "CUSTOM":
        name = code.text("custom_code")
    return name
