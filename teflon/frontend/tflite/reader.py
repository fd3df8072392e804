"""TFLite files to graphs.

The file's bytes are not trusted: whatever is wrong with them is a ModelError that says where, and
what is decoded stays within a small multiple of their size. Constants are read-only views on them.
An operator that the IR does not have, or has not in this form, becomes an `Opaque` with the reason.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from teflon import debug
from teflon.errors import UnsupportedOperation
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Source, Table
from teflon.frontend.tflite.cut import TfliteOrigin
from teflon.frontend.tflite.emit import finish, table
from teflon.frontend.tflite.listing import listing
from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import row_of
from teflon.frontend.tflite.order import Wiring, makers, order
from teflon.frontend.tflite.read_ops import read_node
from teflon.frontend.tflite.tensors import Tensor, empty_constant, is_empty, read_tensors
from teflon.ir import Graph, Op, Value, ops
from teflon.ir.listing import Listing
from teflon.pipe import mistaken_for

Bytes = bytes | bytearray | memoryview | mmap.mmap

_FROM_NOWHERE = "which must be an input, a constant or made by an operator"


def read(data: Bytes, name: str = "") -> Graph:
    """Return the graph of subgraph 0 of a .tflite file; `name` stands in messages.

    The graph passes `Graph.verify`. Its values' constants are views on `data`, which must not
    change while the graph lives. Raises ModelError.
    """
    source = Source(data, name)
    return _Reader(source, _root(source)).graph()


def _root(source: Source) -> Table:
    head = bytes(source.bytes[:64])
    if head[4:8] != schema.IDENTIFIER:
        meant = mistaken_for(head)
        source.fail(
            "identifier",
            f"is {head[4:8]!r}, must be {schema.IDENTIFIER!r} of a .tflite file"
            + (f" (this is {meant})" if meant else ""),
        )
    root = Table(source, source.u32(0, "root"), "Model", Place(None, ""))
    if root.get("version") != schema.VERSION:
        root.fail("version", f"is {root.get('version')}, must be {schema.VERSION}")
    return root


class _Reader:
    """One file while it is read."""

    def __init__(self, source: Source, model: Table) -> None:
        self.source = source
        self.model = model
        subgraphs = model.children("subgraphs")
        first = next(subgraphs, None)
        if first is None:
            model.fail("subgraphs", "has none, must have at least one")
        self.subgraph: Table = first
        self.codes = [self._code(t) for t in model.children("operator_codes")]
        self.tensors = read_tensors(model, first)
        self.values = [t.value for t in self.tensors]
        self.listed: list[NodeView] | None = [] if debug.enabled("verbose") else None

    def graph(self) -> Graph:
        """Read operators, connect, order and convert them."""
        tables = list(self.subgraph.children("operators"))
        wirings = [self._wiring(t) for t in tables]
        made = makers(self.source, wirings, [v.name for v in self.values])
        inputs, outputs = self._numbers("inputs"), self._numbers("outputs")
        self._check_inputs(inputs, made)
        self._fill_empty(inputs, made)
        self._check_sources(wirings, inputs, outputs, made)
        found: list[Op] = []
        for number in order(self.source, wirings, made):
            for op in self._operations(tables[number], wirings[number], number):
                found.append(op)
                self._take_results(op)
        graph = Graph(
            self.subgraph.text("name") or Path(self.source.name).stem,
            tuple(self.values[i] for i in inputs),
            tuple(self.values[i] for i in outputs),
            tuple(found),
            listing=self._listing(),
            origin=TfliteOrigin(self.source.bytes, self.source.name),
        )
        return self._with_names(graph, inputs, outputs)

    def _listing(self) -> Listing | None:
        if self.listed is None:
            return None
        return listing([t.value for t in self.tensors], sorted(self.listed, key=_number))

    # Structure -----------------------------------------------------------------------------

    def _code(self, code: Table) -> tuple[str, int, bool]:
        """Return the name of an operator, its version, and whether it is a custom one."""
        number = max(code.get("deprecated_builtin_code"), code.get("builtin_code"))
        version = code.get("version")
        if number < 0:
            code.fail("builtin_code", f"is {number}, must not be negative")
        if number >= len(schema.BUILTIN_OPERATORS):
            return f"BUILTIN_{number}", version, False
        if schema.BUILTIN_OPERATORS[number] != "CUSTOM":
            return schema.BUILTIN_OPERATORS[number], version, False
        custom = code.text("custom_code")
        if not custom:
            code.fail("custom_code", "is absent, must be the custom operator's name")
        return custom, version, True

    def _numbers(self, field: str) -> tuple[int, ...]:
        return self._tensor_numbers(self.subgraph, field, optional=False)

    def _tensor_numbers(self, owner: Table, field: str, optional: bool) -> tuple[int, ...]:
        found = owner.numbers(field)
        lowest = -1 if optional else 0
        for at, number in enumerate(found):
            if not lowest <= number < len(self.values):
                owner.fail(f"{field}[{at}]", f"is {number}, must be from {lowest} to"
                           f" {len(self.values) - 1}, a tensor's number")  # fmt: skip
        return found

    def _wiring(self, operator: Table) -> Wiring:
        self.source.charge(operator.place, 32)
        code = operator.get("opcode_index")
        if code >= len(self.codes):
            operator.fail("opcode_index", f"is {code}, must be below {len(self.codes)}, the number"
                          " of operator codes")  # fmt: skip
        inputs = self._tensor_numbers(operator, "inputs", optional=True)
        outputs = self._tensor_numbers(operator, "outputs", optional=False)
        where = self.values[outputs[0]].name if outputs else "without output"
        title = f"{self.codes[code][0]} {where!r}"
        return Wiring(title, inputs, outputs, Place(operator.place, f" {title}"))

    def _check_inputs(self, inputs: Sequence[int], made: dict[int, int]) -> None:
        seen: set[int] = set()
        for at, number in enumerate(inputs):
            wrong = {
                "is listed before; each must be another": number in seen,
                "which an operator makes; must be one that none makes": number in made,
                "which has constant data; must have none": self.values[number].is_constant,
            }
            for text in [text for text, is_so in wrong.items() if is_so]:
                self.subgraph.fail(f"inputs[{at}]", f"is {self._name(number)}, {text}")
            seen.add(number)

    def _fill_empty(self, inputs: Sequence[int], made: dict[int, int]) -> None:
        """A constant without elements has no buffer: the shape operand of a scalar, say."""
        for number, value in enumerate(self.values):
            if is_empty(value) and number not in made and number not in inputs:
                self.values[number] = empty_constant(value)

    def _check_sources(
        self,
        wirings: Sequence[Wiring],
        inputs: Sequence[int],
        outputs: Sequence[int],
        made: dict[int, int],
    ) -> None:
        """Every tensor that is read must come from somewhere, and only from there."""
        known = {i for i, v in enumerate(self.values) if v.is_constant or self._is_state(i)}
        known |= {*inputs, *made}
        for wiring in wirings:
            for number in wiring.inputs:
                if number >= 0 and number not in known:
                    self.source.fail(wiring.place, f"reads {self._name(number)}, {_FROM_NOWHERE}")
            for number in wiring.outputs:
                if self.values[number].is_constant:
                    text = f"makes {self._name(number)}, which has constant data already"
                    self.source.fail(wiring.place, text)
        for at, number in enumerate(outputs):
            if number not in known or self._is_state(number):
                text = f"is {self._name(number)}, {_FROM_NOWHERE}"
                self.subgraph.fail(f"outputs[{at}]", text)

    def _name(self, number: int) -> str:
        return f"tensor {self.values[number].name!r}"

    def _is_state(self, number: int) -> bool:
        """Whether a tensor keeps what an earlier run left in it."""
        return self.tensors[number].is_variable

    # Operators -----------------------------------------------------------------------------

    def _operations(self, operator: Table, wiring: Wiring, number: int) -> tuple[Op, ...]:
        name, version, is_custom = self.codes[operator.get("opcode_index")]
        known = row_of(name, is_custom) is not None
        options_type, options = _options(operator) if known else ("", {})
        node = NodeView(
            name=name,
            inputs=tuple(self._operand(i) for i in wiring.inputs),
            outputs=tuple(self.values[i] for i in wiring.outputs),
            version=version,
            options_type=options_type,
            options=options,
            custom_options=_custom_options(operator) if is_custom else b"",
            is_custom=is_custom,
            index=number,
            flexible=frozenset(self.values[i] for i in wiring.outputs if self.tensors[i].flexible),
        )
        if self.listed is not None:
            self.listed.append(node)
        try:
            if known:
                self._check_types(node, wiring)
            return read_node(node)
        except UnsupportedOperation as error:
            return (_opaque(operator, node, "; ".join(error.reasons)),)

    def _take_results(self, op: Op) -> None:
        """Let later operators see the results in the shapes they got here."""
        for value in op.results:
            if value.index >= 0:
                self.values[value.index] = value

    def _operand(self, number: int) -> Value | None:
        """Return an operand; a state is none, as no operation of the IR keeps one."""
        return None if number < 0 or self._is_state(number) else self.values[number]

    def _check_types(self, node: NodeView, wiring: Wiring) -> None:
        for number in (*wiring.inputs, *wiring.outputs):
            if number < 0:
                continue
            tensor: Tensor = self.tensors[number]
            if tensor.is_variable:
                node.unread(f"keeps state in tensor {tensor.value.name!r}")
            if tensor.reason:
                node.unread(f"tensor {tensor.value.name!r} {tensor.reason}")

    # Names ---------------------------------------------------------------------------------

    def _with_names(self, graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
        """Take the names of the signature of subgraph 0, where there is one."""
        for signature in self.model.children("signature_defs"):
            if signature.get("subgraph_index") == 0:
                return replace(
                    graph,
                    input_names=self._signature_names(signature, "inputs", inputs),
                    output_names=self._signature_names(signature, "outputs", outputs),
                )
        return graph

    def _signature_names(
        self, signature: Table, field: str, numbers: Sequence[int]
    ) -> tuple[str, ...]:
        names: dict[int, str] = {}
        ports = set(numbers)
        for entry in signature.children(field):
            number = entry.get("tensor_index")
            if number not in ports:
                entry.fail("tensor_index", f"is {number}, must be one of the subgraph's {field}")
            names[number] = entry.text("name")
        return tuple(names.get(n) or self.values[n].name for n in numbers)


def _number(node: NodeView) -> int:
    return node.index


def _options(operator: Table) -> tuple[str, dict[str, Any]]:
    """Return the options table's name and its fields; nothing for one that the schema has not."""
    for field in ("builtin_options", "builtin_options_2"):
        inner = operator.child(field)
        if inner is not None:
            return inner.name, inner.decoded()
    return "", {}


def _custom_options(operator: Table) -> bytes:
    found = operator.vector("custom_options")
    if found is None or found.size == 0:
        offset = operator.get("large_custom_options_offset")
        size = operator.get("large_custom_options_size")
        place = operator.at("large_custom_options_offset")
        found = operator.source.array("u8", offset, size if offset > 1 else 0, place)
    operator.source.charge(operator.place, found.nbytes)
    return found.tobytes()


def _opaque(operator: Table, node: NodeView, reason: str) -> ops.Opaque:
    """Keep an operator as it is in the file, its options as bytes that can be written again."""
    if node.is_custom:
        options_type, options = "CUSTOM", node.custom_options
    else:
        options_type, fields = _options(operator)
        options = finish(table(options_type, **fields), None, 64) if options_type else b""
    return ops.Opaque(
        inputs=node.inputs,
        outputs=node.outputs,
        kind=node.name,
        version=node.version,
        options=options,
        options_type=options_type,
        reason=reason,
        index=node.index,
    )
