"""One form for graphs that differ in names, numbers and the order of independent operations."""

from __future__ import annotations

from dataclasses import replace

from teflon.compile.partition import Plan
from teflon.ir import Graph, Op, Value, serial
from teflon.ir.lower import order_operations, remove_dead


def canonical(graph: Graph) -> Graph:
    """Return the graph with its operations in the order in which its outputs need them, unnamed.

    Operations that no output needs are left out. Two graphs that compute the same with the same
    operations, types and constants come out with the same content.
    """
    return unnamed(order_operations(remove_dead(graph)))


def unnamed(graph: Graph) -> Graph:
    """Return the graph with numbers for names; the order of its operations stays."""
    names: dict[Value, Value] = {
        v: replace(v, name=f"v{number}", index=number) for number, v in enumerate(graph.values)
    }
    made = [
        replace(op.rewired(names), location="", index=number) for number, op in enumerate(graph.ops)
    ]
    return Graph(
        "g",
        tuple(names[v] for v in graph.inputs),
        tuple(names[v] for v in graph.outputs),
        tuple(made),
    )


def content(graph: Graph) -> bytes:
    """Return the content hash of the canonical form."""
    return serial.content(canonical(graph))


def npu_parts(plan: Plan) -> list[Graph]:
    """Return each partition of the first device without its names."""
    return [unnamed(part.graph) for part in plan.partitions if part.device == 0]


def difference(ours: Graph, theirs: Graph) -> str:
    """Return the first operation in which two canonical graphs differ; empty if there is none."""
    for a, b in zip(ours.ops, theirs.ops, strict=False):
        if type(a) is not type(b):
            return f"{a.title} beside {b.title}"
        for name, mine, other in _sides(a, b):
            if mine != other:
                return f"{a.title}: {name} is {mine}, must be {other}"[:500]
    if len(ours.ops) != len(theirs.ops):
        return f"{len(ours.ops)} operations beside {len(theirs.ops)}"
    return "" if serial.content(ours) == serial.content(theirs) else "constants differ"


def _sides(a: Op, b: Op) -> list[tuple[str, object, object]]:
    operands = list(zip(a.inputs_present, b.inputs_present, strict=False))
    values = [*operands, *zip(a.results, b.results, strict=False)]
    found: list[tuple[str, object, object]] = [
        ("number of operands", len(a.inputs_present), len(b.inputs_present)),
        *((f"type of {m.name}", m.type, o.type) for m, o in values),
        ("attributes", _attributes(a), _attributes(b)),
    ]
    found += [(f"{m.name} is constant", m.is_constant, o.is_constant) for m, o in operands]
    for m, o in operands:
        if m.data is not None and o.data is not None:
            found.append((f"data of {m.name}", m.data.tobytes(), o.data.tobytes()))
    return found


def _attributes(op: Op) -> object:
    numbers = dict.fromkeys((*op.inputs_present, *op.results), 0)
    return serial.encode_op(op, numbers, names=False)
