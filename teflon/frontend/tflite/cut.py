"""Cut a part out of a .tflite file, as a small file of its own that TFLite runs.

The part's operators, tensors, buffers and the subgraphs that the operators call are copied as they
are; only their numbers change. What the part is follows from tensors: everything between its
inputs and its outputs in the file, whatever passes made of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from teflon import forks
from teflon.errors import EncodingError
from teflon.frontend.tflite.access import Source
from teflon.frontend.tflite.flat import FlatFile
from teflon.frontend.tflite.order import Wiring, makers, order
from teflon.frontend.tflite.resources import sharing
from teflon.frontend.tflite.small import SmallFile
from teflon.frontend.tflite.views import Views
from teflon.ir import Array, Graph, Op, Value, ops
from teflon.ir.graph import Cut, Origin

WHOLE = "MODEL"
"""The kind of the one operation that stands for a file that can only run as a whole."""


class TfliteOrigin(Origin):
    """The bytes of a .tflite file, which must not change while it lives; nothing is copied."""

    form = "tflite"

    def __init__(
        self, content: Any, name: str = "", computed: Mapping[int, Array] | None = None
    ) -> None:
        """`computed` has the content of tensors that the reader computed, by their numbers."""
        self.content = content
        self.name = name
        self.computed = computed or {}
        self._lock = forks.lock()
        self._flat: FlatFile | None = None

    def cut(self, graph: Graph) -> Cut:
        """Return the small file of a part: the whole file for the operation WHOLE.

        That one alone has a state that the runtime holds, whose index is what a cut calls it.

        Raises EncodingError where the file has no such part, ModelError where it is damaged.
        """
        if any(isinstance(op, ops.Opaque) and op.kind == WHOLE for op in graph.ops):
            numbers = [tuple(v.index for v in ports) for ports in (graph.inputs, graph.outputs)]
            return Cut(bytes(self.content), numbers[0], numbers[1])
        part = _Part(self.flat(), Source(self.content, self.name), graph, self.computed)
        try:
            return part.cut()
        except EncodingError as error:
            if error.where.startswith(self.name):
                raise
            raise EncodingError(str(error), where=self.name or "model") from None

    def flat(self) -> FlatFile:
        """Return the structure of the file, which is looked at once."""
        with self._lock:
            if self._flat is None:
                self._flat = FlatFile(Source(self.content, self.name))
            return self._flat


class _Part:
    """One part while it is cut out."""

    def __init__(
        self, flat: FlatFile, source: Source, graph: Graph, computed: Mapping[int, Array]
    ) -> None:
        self.flat = flat
        self.source = source
        self.graph = graph
        self.views = Views(flat, source)
        self.inputs: set[int] = set()
        self.substitutes: dict[tuple[int, int], int] = {}
        """(row, operand) -> the tensor that stands there instead of the file's."""
        self.computed: dict[int, Array] = {}
        """Tensors that were computed before, with their content."""
        for number, data in computed.items():
            self._take(number, data)
        for value in graph.constants:
            if value.data is not None and 0 <= value.index < flat.tensor_count:
                self._take(value.index, value.data)

    def cut(self) -> Cut:
        stray = self._bind_operands()
        inputs = [self._boundary(v, stray) for v in self.graph.inputs]
        self.inputs = set(inputs)
        outputs = [self._boundary(v, {}) for v in self.graph.outputs]
        needed = self._needed(outputs)
        small = SmallFile(self.views, self.substitutes, self.computed)
        for value, number in zip(self.graph.inputs, inputs, strict=True):
            small.add_input(number, value)
        small.add_rows(self._ordered(needed))
        for number in outputs:
            small.add_output(number)
        new = small.number
        return Cut(
            small.content(),
            tuple(new[n] for n in inputs),
            tuple(new[n] for n in outputs),
        )

    # Inputs and outputs --------------------------------------------------------------------

    def _boundary(self, value: Value, stray: dict[Value, int]) -> int:
        """Return the number of the tensor that a value is."""
        if value in stray:
            return stray[value]
        number = self.flat.canonical(self._number(value))
        view = self.views[number]
        if view.type_name == "VARIANT":
            raise EncodingError(f"tensor {value.name!r} is a list of tensors, which only the"
                                " runtime can hold (it must stay inside one part)")  # fmt: skip
        if not view.is_constant and view.dtype is not value.type.dtype:
            raise EncodingError(
                f"tensor {value.name!r} is {value.type.dtype.value} here and {view.type_name} in"
                " the file, must be the same"
            )
        if value.data is not None and not view.is_constant:
            self.computed[number] = value.data
        return number

    def _take(self, number: int, data: Array) -> None:
        """Take what was computed before: operators of the file make it, but not in the part."""
        number = self.flat.canonical(number)
        view = self.views[number]
        if not view.is_constant and view.dtype.numpy == data.dtype:
            self.computed[number] = data

    def _number(self, value: Value) -> int:
        if not 0 <= value.index < self.flat.tensor_count:
            raise EncodingError(f"tensor {value.name!r} is not one of the file's (a pass made it)")
        return value.index

    def _bind_operands(self) -> dict[Value, int]:
        """Find where operations that are as in the file read other tensors than there.

        Returns the inputs that have no number in the file: each gets one, and the description of
        the tensor in whose place it is read.
        """
        stray: dict[Value, int] = {}
        given = set(self.graph.inputs)
        for op in self._opaques():
            rows = self.flat.operator_rows.get(op.index, [])
            if len(rows) != 1 or len(op.inputs) != len(self.flat.rows[rows[0]].inputs):
                continue
            row = self.flat.rows[rows[0]]
            for place, (value, tensor) in enumerate(zip(op.inputs, row.inputs, strict=True)):
                if value is None or tensor < 0 or value not in given:
                    continue
                number = self._operand(value, tensor, stray)
                if number != tensor:
                    self.substitutes[rows[0], place] = number
        return stray

    def _operand(self, value: Value, tensor: int, stray: dict[Value, int]) -> int:
        if value.index >= 0:
            return self.flat.canonical(self._number(value))
        if value not in stray:
            if self.views[tensor].dtype is not value.type.dtype:
                raise EncodingError(f"tensor {value.name!r} is not one of the file's, and of"
                                    " another type than the one in its place")  # fmt: skip
            stray[value] = self.views.clone(tensor)
        return stray[value]

    def _opaques(self) -> Iterable[ops.Opaque]:
        return (op for op in self.graph.ops if isinstance(op, ops.Opaque) and op.index >= 0)

    # Operators -----------------------------------------------------------------------------

    def _needed(self, outputs: Iterable[int]) -> set[int]:
        """Return the rows that make the outputs, and those of operations without results."""
        start = [n for op in self._opaques() for n in self._rows_of(op)]
        start += [n for tensor in outputs for n in self._maker(tensor, "the part")]
        needed = self._walk(start)
        if self.views.has_resources:
            needed |= self._walk(sharing(self.views, needed))
        return needed

    def _walk(self, open_rows: list[int]) -> set[int]:
        needed: set[int] = set()
        while open_rows:
            number = open_rows.pop()
            if number in needed:
                continue
            needed.add(number)
            for tensor in self.operands(number):
                open_rows += self._maker(tensor, self.flat.rows[number].kind)
        return needed

    def _rows_of(self, op: Op) -> list[int]:
        if op.index not in self.flat.operator_rows:
            raise EncodingError(f"is operator {op.index}, which the file's list of operators has"
                                " not", where=op.title)  # fmt: skip
        return self.flat.operator_rows[op.index]

    def operands(self, row: int) -> list[int]:
        """Return the tensors that a row reads, those of the file replaced where they are."""
        found = self.flat.rows[row].inputs
        return [self.substitutes.get((row, p), t) for p, t in enumerate(found) if t >= 0]

    def _maker(self, tensor: int, reader: str) -> list[int]:
        """Return the row that makes a tensor; none for inputs and constants."""
        view = self.views[tensor]
        if tensor in self.inputs and view.type_name != "RESOURCE":
            return []
        if tensor in self.computed:
            return []
        if tensor in self.flat.makers:
            return [self.flat.makers[tensor]]
        if view.is_constant or view.is_empty:
            return []
        state = " and keeps state" if view.is_variable else ""
        raise EncodingError(
            f"{reader} needs tensor {view.name!r}, which is no input of the part{state}"
        )

    def _ordered(self, needed: set[int]) -> list[int]:
        """Return rows as in the file, but each after those that it reads."""
        numbers = sorted(needed)
        wirings = [
            Wiring(
                self.flat.rows[n].kind,
                tuple(t for t in self.operands(n) if t not in self.inputs),
                self.flat.rows[n].outputs,
                self.flat.subgraphs[self.flat.rows[n].subgraph].place,
            )
            for n in numbers
        ]
        made = makers(self.source, wirings, self.views.names())
        return [numbers[i] for i in order(self.source, wirings, made)]
