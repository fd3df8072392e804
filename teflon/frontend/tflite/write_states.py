"""Turn the states of a graph into variables of a file, which READ and ASSIGN copy."""

from __future__ import annotations

from collections.abc import Collection, Sequence
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


def stateful_nodes(
    graph: Graph, nodes: Sequence[Node], tensors: Collection[Value]
) -> tuple[list[Node], list[Node]]:
    """Return the operators of a graph with those that read and store its states around them.

    States in `tensors` are variable tensors, and need none. The second list are the operators of a
    subgraph that stores the first contents. Contents are read before all operators, and stored
    behind them.
    """
    count = len(graph.states)
    olds, news = (ports[len(ports) - count :] for ports in (graph.inputs, graph.outputs))
    first: list[Node] = []
    last: list[Node] = []
    filling: list[Node] = []
    for number, (state, old, new) in enumerate(zip(graph.states, olds, news, strict=True)):
        if old in tensors:
            continue
        here, there = _handle(graph, number), _handle(graph, number)
        first += [here, _node("READ_VARIABLE", here.outputs, (old,), "ReadVariableOptions")]
        last.append(_node("ASSIGN_VARIABLE", (*here.outputs, new), (), "AssignVariableOptions"))
        content = replace(old, data=state.initial)
        filling += [
            there,
            _node("ASSIGN_VARIABLE", (*there.outputs, content), (), "AssignVariableOptions"),
        ]
    if filling:
        first.insert(0, _node("CALL_ONCE", (), (), "CallOnceOptions", init_subgraph_index=1))
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
