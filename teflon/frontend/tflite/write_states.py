"""Turn the states of a graph into variables of a file, which READ and ASSIGN copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.write_ops import Code, Node
from teflon.ir import DType, Graph, TensorType, Value

RESOURCE = schema.TENSOR_TYPES.index("RESOURCE")


@dataclass(frozen=True, eq=False, repr=False)
class _Handle(Value):
    """What VAR_HANDLE makes: the name of a variable."""


def is_handle(value: Value) -> bool:
    """Whether a tensor is written with the type RESOURCE."""
    return isinstance(value, _Handle)


def stateful_nodes(graph: Graph, nodes: Sequence[Node]) -> tuple[list[Node], list[Node]]:
    """Return the operators of a graph with those that read and store its states around them.

    The second list are those of a subgraph that stores the first contents. Contents are read before
    all operators and stored behind them.
    """
    if not graph.states:
        return list(nodes), []
    count = len(graph.states)
    olds, news = graph.inputs[-count:], graph.outputs[-count:]
    first = [_node("CALL_ONCE", (), (), "CallOnceOptions", init_subgraph_index=1)]
    last: list[Node] = []
    filling: list[Node] = []
    for number, (state, old, new) in enumerate(zip(graph.states, olds, news, strict=True)):
        here, there = _handle(graph, number), _handle(graph, number)
        first += [here, _node("READ_VARIABLE", here.outputs, (old,), "ReadVariableOptions")]
        last.append(_node("ASSIGN_VARIABLE", (*here.outputs, new), (), "AssignVariableOptions"))
        content = replace(old, data=state.initial)
        filling.append(there)
        filling.append(
            _node("ASSIGN_VARIABLE", (*there.outputs, content), (), "AssignVariableOptions")
        )
    return [*first, *nodes, *last], filling


def _handle(graph: Graph, number: int) -> Node:
    """Return the VAR_HANDLE of a state; the number keeps states of one name apart."""
    name = graph.states[number].name
    others = [s for s in graph.states if s.name == name]
    shared = name if len(others) == 1 else f"{name}:{number}"
    value = _Handle(f"{shared}/handle", TensorType(DType.OTHER, ()))
    return _node("VAR_HANDLE", (), (value,), "VarHandleOptions", container="", shared_name=shared)


def _node(
    kind: str, inputs: Sequence[Value], outputs: Sequence[Value], options: str, **fields: Any
) -> Node:
    code = Code(schema.BUILTIN_OPERATORS.index(kind))
    return Node(code, tuple(inputs), tuple(outputs), table(options, **fields))
