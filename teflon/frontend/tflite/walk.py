"""Convert operators of a file in the order in which they run."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.frontend.tflite.calls import uses_variables
from teflon.frontend.tflite.fold import folded, folded_node
from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import row_of
from teflon.frontend.tflite.read_ops import read_node
from teflon.frontend.tflite.shapes import Shapes, dynamic_operand
from teflon.frontend.tflite.subgraphs import Operator, Subgraphs
from teflon.frontend.tflite.tensors import Tensor
from teflon.frontend.tflite.variables import OPERATORS, InseparableError, Key, Variables
from teflon.ir import Array, Op, Value, ops
from teflon.ir.lower.constants import constant_results

_TABLES = ("HASHTABLE", "HASHTABLE_IMPORT")
_READ_TABLES = ("HASHTABLE_FIND", "HASHTABLE_SIZE")


class Walk:
    """The operators of one subgraph while they are converted, and the values that they made."""

    def __init__(
        self,
        subgraphs: Subgraphs,
        tensors: Mapping[int, Tensor],
        variables: Variables,
        shapes: Shapes,
        calls: Mapping[int, Sequence[int]],
    ) -> None:
        self.subgraphs = subgraphs
        self.tensors = tensors
        self.variables = variables
        self.shapes = shapes
        self.calls = calls
        self._values = {number: tensor.value for number, tensor in tensors.items()}
        self._values |= shapes.inputs

    def operations(self, operators: Sequence[Operator]) -> Iterator[Op]:
        """Yield what operators mean. Raises InseparableError, ModelError."""
        for operator in operators:
            if self._is_of_variables(operator):
                yield from self._variable(operator)
            else:
                yield from self._operation(operator)

    def value(self, number: int) -> Value:
        """Return the value of a tensor by now."""
        if self.tensors[number].is_variable:
            return self.variables.old(self._values[number])
        return self._values[number]

    @property
    def computed(self) -> dict[int, Array]:
        """The content of tensors that are no constants in the file, but known by now."""
        return {
            number: value.data
            for number, value in self._values.items()
            if value.data is not None and not self.tensors[number].value.is_constant
        }

    # Variables ------------------------------------------------------------------------------

    def _is_of_variables(self, operator: Operator) -> bool:
        if operator.name == "VAR_HANDLE":
            return bool(operator.outputs) and self.tensors[operator.outputs[0]].is_resource
        return operator.name in OPERATORS

    def _variable(self, operator: Operator) -> Iterator[Op]:
        if operator.name == "CALL_ONCE":
            self.variables.begin(operator, self._first_contents(operator))
        elif operator.name == "ASSIGN_VARIABLE":
            self.variables.assign(operator, self._values[operator.inputs[1]])
        elif operator.name == "READ_VARIABLE":
            number = operator.outputs[0]
            flexible = self.tensors[number].flexible
            value, op = self.variables.read(operator, self._values[number], flexible)
            self._values[number] = value
            if op is not None:
                yield op

    def _first_contents(self, operator: Operator) -> dict[Key, Value]:
        """Run the subgraph that a CALL_ONCE names."""
        part = self.subgraphs.called(operator, "init_subgraph_index")
        variables = Variables()
        variables.prepare(part.operators)
        walk = Walk(self.subgraphs, part.tensors, variables, Shapes.of_file(part), self.calls)
        for inner in part.operators:
            if inner.name in _TABLES:
                continue  # the runtime of a part that reads the table fills it
            if inner.name == "CALL_ONCE":
                raise InseparableError(f"{operator.title} calls another subgraph")
            for op in walk.operations([inner]):
                walk._compute(op)
        for key, value in variables.contents.items():
            if not value.is_constant:
                raise InseparableError(f"{operator.title} stores in {key[1]!r} what is no constant")
        return variables.contents

    def _compute(self, op: Op) -> None:
        found = None if isinstance(op, ops.Opaque) else constant_results(op)
        if found is None:
            raise InseparableError(f"{op.title} runs once, and not on constants alone")
        self._values.update({value.index: value for value in found})

    # Others ---------------------------------------------------------------------------------

    def _operation(self, operator: Operator) -> tuple[Op, ...]:
        self._check_resources(operator)
        flexible = [self._values[i] for i in operator.outputs if self._is_flexible(i)]
        node, changed = self._with_states(node_of(operator, self._values, flexible))
        try:
            found = self._read(node)
        except UnsupportedOperation as error:
            found = self._left(operator, node, "; ".join(error.reasons))
        for op in found:
            self._take(op.results)
        for value in changed:
            self.variables.change(value)
        return found

    def _take(self, values: Sequence[Value]) -> None:
        self._values.update({v.index: v for v in values if v.index >= 0})

    def _is_flexible(self, number: int) -> bool:
        return self.shapes.resizing or self.tensors[number].flexible

    def _check_resources(self, operator: Operator) -> None:
        if operator.name in _READ_TABLES:
            return
        for number in operator.inputs:
            if number >= 0 and self.tensors[number].is_resource:
                raise InseparableError(f"{operator.title} reads a resource")

    def _read(self, node: NodeView) -> tuple[Op, ...]:
        """Return the operations of a node; none for one that is computed at once."""
        unknown = dynamic_operand(node.inputs)
        if unknown is not None:
            node.unread(f"reads {unknown.name!r}, whose shape is known only when it is computed")
        row = row_of(node.name, node.is_custom)
        if row is not None:
            self._check_types(node, row.states)
        found = read_node(node)
        short: dict[Value, Value] = {}
        for op in found:
            values = folded(op.rewired(short))
            if values is None:
                return found
            short.update(zip(op.results, values, strict=True))
        self._take(tuple(short.values()))
        return ()

    def _left(self, operator: Operator, node: NodeView, reason: str) -> tuple[Op, ...]:
        """Return what stands for an operator that the IR does not have in this form."""
        values = folded_node(node)
        if values is not None:
            self._take(values)
            return ()
        self._check_reshape(operator, node)
        if uses_variables(self.subgraphs, self.calls, operator.table):
            raise InseparableError(f"{operator.title} uses variables in the subgraphs it calls")
        return (self._opaque(operator, node, reason),)

    def _check_reshape(self, operator: Operator, node: NodeView) -> None:
        """Refuse new shapes of inputs that do not fit a shape which the file fixes."""
        if not self.shapes.resizing or node.name != "RESHAPE" or not node.inputs:
            return
        x, wanted = node.inputs[0], node.optional(1)
        shape = node.output.shape if wanted is None else wanted.data
        if x is None or shape is None:
            return
        numbers = [int(n) for n in np.asarray(shape).reshape(-1)[:32]]
        if -1 not in numbers and math.prod(numbers) != x.type.size:
            self.shapes.source.fail(
                operator.place,
                f"makes the shape {numbers}, which the file fixes, of {list(x.shape)}, must have as"
                " many elements (give other shapes)",
            )

    def _with_states(self, node: NodeView) -> tuple[NodeView, list[Value]]:
        """Return an operator that reads the contents of variable tensors and makes new ones."""
        kept = [v for v in dict.fromkeys(node.inputs) if v is not None and self._is_state(v)]
        olds = {v: self.variables.old(v) for v in kept}
        changed = [replace(v) for v in kept]
        inputs = tuple(None if v is None else olds.get(v, v) for v in node.inputs)
        return replace(node, inputs=inputs, outputs=(*node.outputs, *changed)), changed

    def _check_types(self, node: NodeView, states: Collection[int]) -> None:
        """Give up on tensors that no operation of the IR reads; `states` are operands' places."""
        operands = [v for n, v in enumerate(node.inputs) if n in states and v is not None]
        variable = {v.index for v in operands}
        for value in (*node.inputs, *node.outputs):
            if value is None:
                continue
            tensor = self.tensors.get(value.index)
            if tensor is None:
                continue
            if tensor.is_variable and value.index not in variable:
                node.unread(f"keeps state in tensor {value.name!r}")
            if tensor.reason:
                node.unread(f"tensor {value.name!r} {tensor.reason}")

    def _opaque(self, operator: Operator, node: NodeView, reason: str) -> ops.Opaque:
        """Keep an operator as it is in the file, its options as bytes that can be written again."""
        if node.is_custom:
            options_type, options = "CUSTOM", node.custom_options
        else:
            options_type, options = operator.encoded_options()
        dynamic = dynamic_operand(node.inputs) is not None
        made = node.outputs[: len(operator.outputs)]
        return ops.Opaque(
            inputs=node.inputs,
            outputs=(
                *self.shapes.results(operator, replace(node, outputs=made), dynamic),
                *node.outputs[len(made) :],
            ),
            kind=node.name,
            version=node.version,
            options=options,
            options_type=options_type,
            reason=reason,
            index=node.index,
        )

    def _is_state(self, value: Value) -> bool:
        """Whether a tensor keeps what an earlier run left in it."""
        return value.index in self.tensors and self.tensors[value.index].is_variable


def node_of(
    operator: Operator, values: Mapping[int, Value], flexible: Collection[Value]
) -> NodeView:
    """Return an operator as the rows see it."""
    code = operator.code
    known = row_of(code.name, code.is_custom) is not None
    options_type, options = operator.options() if known else ("", {})
    return NodeView(
        name=code.name,
        inputs=tuple(None if i < 0 else values[i] for i in operator.inputs),
        outputs=tuple(values[i] for i in operator.outputs),
        version=code.version,
        options_type=options_type,
        options=options,
        custom_options=operator.custom_options() if code.is_custom else b"",
        is_custom=code.is_custom,
        index=operator.number,
        flexible=frozenset(flexible),
    )
