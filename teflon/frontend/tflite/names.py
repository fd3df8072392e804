"""The names by which users call inputs and outputs: those of a signature, where there is one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from teflon.errors import OptionError, did_you_mean
from teflon.frontend.tflite.access import Table
from teflon.frontend.tflite.read_ops import MAX_ELEMENTS
from teflon.frontend.tflite.subgraphs import Subgraph
from teflon.ir import Graph, Value


def with_names(model: Table, graph: Graph, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
    """Return the graph with the names of the signature of subgraph 0. Raises ModelError.

    `inputs` and `outputs` are the numbers of the tensors that users see.
    """
    states = tuple(state.name for state in graph.states)
    ports = {"inputs": graph.inputs, "outputs": graph.outputs}
    names = {field: _own_names(values, states) for field, values in ports.items()}
    signature = _signature(model)
    if signature is not None:
        names["inputs"] = _given(signature, "inputs", inputs, names["inputs"])
        names["outputs"] = _given(signature, "outputs", outputs, names["outputs"])
    return replace(graph, input_names=names["inputs"], output_names=names["outputs"])


def resized_inputs(
    model: Table, main: Subgraph, shapes: Mapping[str, Sequence[int]]
) -> dict[int, tuple[int, ...]]:
    """Return the shapes that users give inputs, by the inputs' numbers.

    Raises OptionError for a name that no input has, or a shape that no tensor can have.
    """
    if not shapes:
        return {}
    own = tuple(main.tensors[n].value.name for n in main.inputs)
    signature = _signature(model)
    given = own if signature is None else _given(signature, "inputs", main.inputs, own)
    numbers = dict(zip((*own, *given), (*main.inputs, *main.inputs), strict=True))
    found: dict[int, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if name not in numbers:
            known = ", ".join(repr(n) for n in dict.fromkeys(given))
            raise OptionError(
                f"{model.source.name}: there is no input {name!r}, must be one of {known}"
                + did_you_mean(name, list(numbers))
            )
        sizes = tuple(int(size) for size in shape)
        if min(sizes, default=1) < 1 or math.prod(sizes) > MAX_ELEMENTS:
            raise OptionError(
                f"{model.source.name}: shape of input {name!r} is {list(sizes)}, must have sizes of"
                f" at least 1 and at most {MAX_ELEMENTS} elements"
            )
        found[numbers[name]] = sizes
    return found


def _signature(model: Table) -> Table | None:
    signatures = model.children("signature_defs")
    return next((s for s in signatures if s.get("subgraph_index") == 0), None)


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
