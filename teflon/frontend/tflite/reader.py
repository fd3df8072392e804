"""TFLite files to graphs.

The file's bytes are not trusted: whatever is wrong with them is a ModelError that says where, and
what is decoded stays within a small multiple of their size. Constants are read-only views on them.
An operator that the IR does not have, or has not in this form, becomes an `Opaque` with the reason.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from teflon import debug
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Source, Table
from teflon.frontend.tflite.calls import CHANGING, called_subgraphs, uses_variables
from teflon.frontend.tflite.cut import WHOLE, TfliteOrigin
from teflon.frontend.tflite.foreign import refuse_foreign
from teflon.frontend.tflite.listing import listing
from teflon.frontend.tflite.names import resized_inputs, with_names
from teflon.frontend.tflite.order import makers, order
from teflon.frontend.tflite.shapes import Shape, Shapes
from teflon.frontend.tflite.subgraphs import Operator, Subgraph, Subgraphs
from teflon.frontend.tflite.tensors import empty_constant, is_empty
from teflon.frontend.tflite.variables import InseparableError, Variables
from teflon.frontend.tflite.walk import Walk, node_of
from teflon.ir import Array, Graph, Value, ops
from teflon.ir.held import held_state
from teflon.ir.listing import Listing
from teflon.pipe import mistaken_for

Bytes = bytes | bytearray | memoryview | mmap.mmap

_ELSEWHERE = "whose data is in another file, must be in this one (external buffers are not read)"
_FROM_NOWHERE = "which must be an input, a constant or made by an operator"


Ask = Callable[[Mapping[int, Shape]], Mapping[int, Shape]]
"""Returns the shapes of tensors, by number, for shapes of inputs; see `Driver.tensor_shapes`."""


def read(data: Bytes, name: str = "") -> Graph:
    """Return the graph of subgraph 0 of a .tflite file; `name` stands in messages.

    The graph passes `Graph.verify`. Its values' constants are views on `data`, which must not
    change while the graph lives. Raises ModelError.
    """
    source = Source(data, name)
    return _Reader(source, _root(source)).graph()


def read_resized(
    data: Bytes, shapes: Mapping[str, Sequence[int]], name: str = "", ask: Ask | None = None
) -> Graph:
    """Return the graph with new shapes of inputs, by their names in a signature or in the file.

    `ask` tells the shapes of what operations make that the IR does not have. Raises OptionError
    for a name that no input has or a shape that none can have, ModelError as `read`, and where the
    file cannot take the shapes.
    """
    source = Source(data, name)
    return _Reader(source, _root(source), shapes, ask).graph()


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

    def __init__(
        self,
        source: Source,
        model: Table,
        shapes: Mapping[str, Sequence[int]] | None = None,
        ask: Ask | None = None,
    ) -> None:
        self.source = source
        self.model = model
        self.subgraphs = Subgraphs(source, model)
        self.main: Subgraph = self.subgraphs.main()
        self.tensors = self.main.tensors
        self.inputs = tuple(dict.fromkeys(self.main.inputs))  # one that is listed twice is one
        new = resized_inputs(model, self.main, shapes or {})
        asked = None if ask is None else partial(ask, new)
        self.shapes = Shapes(source, self.tensors, new, asked)

    def graph(self) -> Graph:
        """Read operators, connect, order and convert them."""
        operators = self.main.operators
        for operator in operators:
            refuse_foreign(self.model, operator)
        names = {number: tensor.value.name for number, tensor in self.tensors.items()}
        made = makers(self.source, operators, names)
        self._check_inputs(made)
        self._settle(made)
        self._check_sources(operators, made)
        calls = called_subgraphs(self.subgraphs)
        running = [operators[number] for number in order(self.source, operators, made)]
        try:
            graph = self._separate(running, calls)
        except InseparableError as error:
            graph = self._whole(str(error), calls)
        if bad := next((v for v in graph.values if v.type.problem), None):
            self.source.fail(f"tensor {bad.name!r}", bad.type.problem)
        return with_names(self.model, graph, self.inputs, self.main.outputs)

    def _separate(self, running: Sequence[Operator], calls: Mapping[int, Sequence[int]]) -> Graph:
        """Return the graph of all operators. Raises InseparableError where values cannot say it."""
        variables = Variables()
        variables.prepare(running)
        walk = Walk(self.subgraphs, self.tensors, variables, self.shapes, calls)
        found = list(walk.operations(running))
        outputs = tuple(walk.value(i) for i in self.main.outputs)
        states = variables.states()
        return Graph(
            self._title(),
            (*self._values(self.inputs), *(old for _, old, _ in states)),
            (*outputs, *(new for _, _, new in states)),
            (*found, *variables.retagged),
            listing=self._listing(),
            origin=self._origin(walk.computed),
            states=tuple(state for state, _, _ in states),
        )

    def _whole(self, reason: str, calls: Mapping[int, Sequence[int]]) -> Graph:
        """Return the graph of one opaque operation that does what the file does."""
        kept = [held_state(f"{WHOLE} keeps")] if self._keeps_state(calls) else []
        inputs = self._values(self.inputs)
        listed = self._values(self.main.outputs)
        made = [v for v in dict.fromkeys(listed) if v not in inputs and not v.is_constant]
        results = self.shapes.of_whole(self.main.table.place, made)
        new = dict(zip(made, results, strict=True))
        op = ops.Opaque(
            inputs=(*inputs, *(old for _, old, _ in kept)),
            outputs=(*results, *(new for _, _, new in kept)),
            kind=WHOLE,
            reason=reason,
        )
        return Graph(
            self._title(),
            op.inputs_present,
            (*(new.get(v, v) for v in listed), *op.outputs[len(results) :]),
            (op,),
            listing=self._listing(),
            origin=self._origin(),
            states=tuple(state for state, _, _ in kept),
        )

    def _keeps_state(self, calls: Mapping[int, Sequence[int]]) -> bool:
        """Whether anything in the file lasts from one run to the next.

        Variable tensors of subgraphs that others call do not: see `FlatFile`. What CALL_ONCE stores
        is the first content, which alone is no state.
        """
        return any(tensor.is_variable for tensor in self.tensors.values()) or any(
            operator.name in CHANGING
            or uses_variables(self.subgraphs, calls, operator.table, CHANGING)
            for operator in self.main.operators
            if operator.name != "CALL_ONCE"
        )

    def _origin(self, computed: Mapping[int, Array] | None = None) -> TfliteOrigin:
        return TfliteOrigin(self.source.bytes, self.source.name, computed)

    def _title(self) -> str:
        return self.main.table.text("name") or Path(self.source.name).stem

    def _values(self, numbers: Sequence[int]) -> tuple[Value, ...]:
        return tuple(self.shapes.inputs.get(n) or self.tensors[n].value for n in numbers)

    def _listing(self) -> Listing | None:
        if not debug.enabled("verbose"):
            return None
        count = len(self.subgraphs.flat.subgraphs[0].tensors)
        known = {number: tensor.value for number, tensor in self.tensors.items()}
        own = [o for o in self.main.operators if max((*o.inputs, *o.outputs, 0)) < count]
        nodes = [node_of(operator, known, frozenset()) for operator in own]
        return listing([known[n] for n in range(count)], nodes)

    # Structure -----------------------------------------------------------------------------

    def _check_inputs(self, made: dict[int, int]) -> None:
        for at, number in enumerate(self.main.inputs):
            wrong = {
                "which an operator makes; must be one that none makes": number in made,
                "which has constant data; must have none": self._is_constant(number),
            }
            for text in [text for text, is_so in wrong.items() if is_so]:
                self.main.table.fail(f"inputs[{at}]", f"is {self._name(number)}, {text}")

    def _is_constant(self, number: int) -> bool:
        return self.tensors[number].value.is_constant

    def _settle(self, made: dict[int, int]) -> None:
        """Say what tensors are that are no inputs and that no operator makes, and the others.

        A constant without elements has no buffer: the shape operand of a scalar, say. What is given
        or made keeps nothing, even if it is called variable.
        """
        for number, tensor in self.tensors.items():
            if number in made or number in self.inputs:
                self.tensors[number] = replace(tensor, is_variable=False)
            elif is_empty(tensor.value):
                self.tensors[number] = replace(tensor, value=empty_constant(tensor.value))

    def _check_sources(self, operators: Sequence[Operator], made: dict[int, int]) -> None:
        """Every tensor that is read must come from somewhere, and only from there."""
        known = {i for i, t in self.tensors.items() if t.value.is_constant or t.is_variable}
        known |= {*self.main.inputs, *made}
        for operator in operators:
            for number in operator.inputs:
                if number >= 0 and number not in known:
                    text = _ELSEWHERE if self.tensors[number].is_external else _FROM_NOWHERE
                    self.source.fail(operator.place, f"reads {self._name(number)}, {text}")
            for number in operator.outputs:
                if self._is_constant(number):
                    text = f"makes {self._name(number)}, which has constant data already"
                    self.source.fail(operator.place, text)
        for at, number in enumerate(self.main.outputs):
            if number not in known:
                text = f"is {self._name(number)}, {_FROM_NOWHERE}"
                self.main.table.fail(f"outputs[{at}]", text)

    def _name(self, number: int) -> str:
        return f"tensor {self.tensors[number].value.name!r}"
