"""The names by which users call inputs and outputs: those of a signature, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from teflon.frontend.tflite.access import Table
from teflon.frontend.tflite.subgraphs import Subgraph
from teflon.ir import Graph, Value


def with_names(model: Table, graph: Graph, main: Subgraph) -> Graph:
    """Return the graph with the names of the signature of subgraph 0. Raises ModelError."""
    states = tuple(state.name for state in graph.states)
    ports = {"inputs": graph.inputs, "outputs": graph.outputs}
    names = {field: _own_names(values, states) for field, values in ports.items()}
    for signature in model.children("signature_defs"):
        if signature.get("subgraph_index") == 0:
            names["inputs"] = _given(signature, "inputs", main.inputs, names["inputs"])
            names["outputs"] = _given(signature, "outputs", main.outputs, names["outputs"])
            break
    return replace(graph, input_names=names["inputs"], output_names=names["outputs"])


def _own_names(values: Sequence[Value], states: tuple[str, ...]) -> tuple[str, ...]:
    return (*(v.name for v in values[: len(values) - len(states)]), *states)


def _given(
    signature: Table, field: str, numbers: Sequence[int], own: tuple[str, ...]
) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for entry in signature.children(field):
        number = entry.get("tensor_index")
        if number not in numbers:
            entry.fail("tensor_index", f"is {number}, must be one of the subgraph's {field}")
        names[number] = entry.text("name")
    given = (names.get(n) or name for n, name in zip(numbers, own, strict=False))
    return (*given, *own[len(numbers) :])
