"""Put tables of a .tflite file together as a smaller file, with new numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from teflon.errors import EncodingError
from teflon.frontend.tflite import emit, schema
from teflon.frontend.tflite.access import Table
from teflon.frontend.tflite.copying import child, copied, references, renumbered_options
from teflon.frontend.tflite.flat import Row, check_numbers
from teflon.frontend.tflite.views import TensorView, Views, content
from teflon.ir import Array, Value

MAX_DEPTH = 32
"""How deep subgraphs may call each other: the runtime calls them on its stack."""
MAX_BYTES = (1 << 31) - (1 << 20)
"""A flatbuffer has 31 bits for its offsets."""


class SmallFile:
    """A file while it is put together."""

    def __init__(
        self,
        views: Views,
        substitutes: Mapping[tuple[int, int], int],
        computed: Mapping[int, Array],
    ) -> None:
        self.views = views
        self.flat = views.flat
        self.source = views.source
        self.substitutes = substitutes
        self.computed = computed
        self.number: dict[int, int] = {}
        """Tensor of the file -> its number in the main subgraph."""
        self._tensors: list[emit.Table] = []
        self._operators: list[emit.Table] = []
        self._inputs: list[int] = []
        self._outputs: list[int] = []
        self._codes: dict[int, int] = {}
        self._code_tables: list[emit.Table] = []
        self._buffers: dict[int, int] = {}
        self._buffer_tables: list[emit.Table] = [emit.table("Buffer")]  # by convention empty
        self._subgraphs: dict[int, int] = {}
        self._subgraph_tables: dict[int, emit.Table] = {}
        self._path: list[int] = []
        self._bytes = 0

    def content(self) -> bytes:
        """Return the file."""
        if self._bytes > MAX_BYTES:
            raise EncodingError(f"has {self._bytes} bytes, must have at most {MAX_BYTES} (a"
                                " flatbuffer cannot hold more)")  # fmt: skip
        main = emit.table(
            "SubGraph",
            tensors=self._tensors,
            inputs=np.array(self._inputs, np.int32),
            outputs=np.array(self._outputs, np.int32),
            operators=self._operators,
            name="main",
        )
        others = [self._subgraph_tables[n] for n in sorted(self._subgraph_tables)]
        root = emit.table(
            "Model",
            version=schema.VERSION,
            operator_codes=self._code_tables,
            subgraphs=[main, *others],
            buffers=self._buffer_tables,
        )
        return emit.finish(root, size=self._bytes + 4096)

    # The main subgraph ---------------------------------------------------------------------

    def add_input(self, tensor: int, value: Value) -> None:
        """Make a tensor an input, in the shape that it has in the graph."""
        if tensor in self.number:
            return
        view = self.views[tensor]
        new = self._tensor(tensor, value.type.shape)
        is_given = tensor in self.computed or view.is_constant or view.is_variable
        if not is_given and view.type_name != "RESOURCE":
            self._inputs.append(new)

    def add_output(self, tensor: int) -> None:
        new = self._tensor(tensor)
        if not self.views[tensor].is_variable and new not in self._outputs:
            self._outputs.append(new)

    def add_rows(self, rows: Iterable[int]) -> None:
        """Add operators in this order."""
        for number in rows:
            row = self.flat.rows[number]
            table = self.flat.operator_table(self.source, row.subgraph, row.local)
            self._operators.append(self._operator(table, self._wiring(number, row)))

    def _wiring(self, number: int, row: Row) -> dict[str, Any]:
        inputs = [self.substitutes.get((number, p), t) for p, t in enumerate(row.inputs)]
        groups = {"inputs": inputs, "outputs": row.outputs, "intermediates": row.intermediates}
        return {
            name: np.array([-1 if t < 0 else self._tensor(t) for t in tensors], np.int32)
            for name, tensors in groups.items()
            if tensors or name != "intermediates"
        }

    def _tensor(self, tensor: int, shape: tuple[int, ...] | None = None) -> int:
        if tensor in self.number:
            return self.number[tensor]
        new = self.number[tensor] = len(self._tensors)
        self._tensors.append(emit.Table("Tensor"))  # its place, as further ones follow
        view = self.views[tensor]
        changed: dict[str, Any] = {}
        if shape is not None and shape != view.shape and not view.is_constant:
            changed["shape"] = np.array(shape, np.int32)
        if tensor in self.computed:
            changed["buffer"] = self._computed(self.computed[tensor])
        self._tensors[new] = self._copied_tensor(view, tensor, changed)
        return new

    def _copied_tensor(
        self, view: TensorView, tensor: int | None, changed: dict[str, Any]
    ) -> emit.Table:
        """Copy a tensor; `tensor` is its number in the list, None outside the main subgraph."""
        if "buffer" not in changed:
            changed["buffer"] = self._buffer(view.buffer)
        quantization = view.table.child("quantization")
        if quantization is not None and tensor is not None:
            changed["quantization"] = self._quantization(quantization, tensor)
        return copied(view.table, **changed)

    def _quantization(self, table: Table, tensor: int) -> emit.Table:
        """Copy a quantisation; scales of blocks are tensors of their own."""
        details = child(table, "details")
        if details is None or details.name == "CustomQuantization":
            return copied(table)
        new: dict[str, int] = {}
        count = len(self.flat.subgraphs[self.views.place(tensor)[0]].tensors)
        for name in ("scales", "zero_points"):
            local = details.get(name)
            check_numbers(details, name, (local,), -1, count)
            new[name] = -1 if local < 0 else self._tensor(self.views.sibling(tensor, local))
        return copied(table, details=copied(details, **new))

    # What subgraphs share ------------------------------------------------------------------

    def _operator(self, table: Table, wiring: Mapping[str, Any]) -> emit.Table:
        self.flat.kind_of(table)
        for number in references(table):
            self._subgraph(table, number)
        return copied(
            table,
            opcode_index=self._code(table.get("opcode_index")),
            debug_metadata_index=None,
            **renumbered_options(table, self._subgraphs),
            **self._large_options(table),
            **wiring,
        )

    def _large_options(self, table: Table) -> dict[str, Any]:
        """Take custom options from behind the flatbuffer into it."""
        offset, size = (table.get(f"large_custom_options_{name}") for name in ("offset", "size"))
        inside = table.vector("custom_options")
        dropped = {"large_custom_options_offset": None, "large_custom_options_size": None}
        if offset <= 1 or size == 0 or (inside is not None and inside.size):
            return dropped
        place = table.at("large_custom_options_offset")
        found = self.source.array("u8", offset, size, place)
        self._count(found.nbytes)
        self.source.charge(place, found.nbytes)
        return {**dropped, "custom_options": found}

    def _code(self, number: int) -> int:
        if number not in self._codes:
            self._codes[number] = len(self._code_tables)
            self._code_tables.append(copied(self.flat.code_table(self.source, number)))
        return self._codes[number]

    def _buffer(self, number: int) -> int:
        if number not in self._buffers:
            data = content(self.flat, self.source, number)
            self._buffers[number] = 0 if data is None else self._computed(data)
        return self._buffers[number]

    def _computed(self, data: Array) -> int:
        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._count(flat.nbytes)
        self._buffer_tables.append(emit.table("Buffer", data=flat))
        return len(self._buffer_tables) - 1

    def _count(self, size: int) -> None:
        self._bytes += size + emit.ALIGNMENT

    # Further subgraphs ---------------------------------------------------------------------

    def _subgraph(self, operator: Table, number: int) -> None:
        """Copy a subgraph that an operator calls, and those that it calls."""
        if number >= len(self.flat.subgraphs):
            operator.fail("options", f"name subgraph {number}, must be below"
                          f" {len(self.flat.subgraphs)}, the number of subgraphs")  # fmt: skip
        if number in self._path or len(self._path) >= MAX_DEPTH:
            text = f"calls subgraph {number} inside itself, or deeper than {MAX_DEPTH} calls"
            raise EncodingError(f"{text}, must not", where=str(operator.place))
        if number in self._subgraphs:
            return
        self._path.append(number)
        self._subgraphs[number] = 0  # known once its own calls are there
        table = self.flat.subgraph_table(self.source, number)
        count = len(self.flat.subgraphs[number].tensors)
        changed = {
            "tensors": [self._inner_tensor(number, n) for n in range(count)],
            "operators": [
                self._inner_operator(number, n, count)
                for n in range(len(self.flat.subgraphs[number].operators))
            ],
            "debug_metadata_index": None,
        }
        for name in ("inputs", "outputs"):
            check_numbers(table, name, table.numbers(name), 0, count)
        new = self._subgraphs[number] = len(self._subgraph_tables) + 1
        self._subgraph_tables[new] = copied(table, **changed)
        self._path.pop()

    def _inner_tensor(self, subgraph: int, local: int) -> emit.Table:
        view = TensorView(self.flat, self.flat.tensor_table(self.source, subgraph, local))
        return self._copied_tensor(view, None, {})

    def _inner_operator(self, subgraph: int, local: int, count: int) -> emit.Table:
        table = self.flat.operator_table(self.source, subgraph, local)
        for name, lowest in (("inputs", -1), ("outputs", 0), ("intermediates", -1)):
            check_numbers(table, name, table.numbers(name), lowest, count)
        return self._operator(table, {})
