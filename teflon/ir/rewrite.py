"""Replace operations and values of a graph; passes are written with these functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from teflon.ir.graph import Graph, Op, Value

Rule = Callable[[Op, Graph], Sequence[Op] | None]
"""Returns the operations that replace one, or None to leave it.

The new operations must make all results of the old one.
"""


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """Return the graph with the rule applied once to each of its operations.

    The rule sees the graph as it was. Returns the same graph where no rule applied.
    """
    found: list[Op] = []
    changed = False
    for op in graph.ops:
        replacement = rule(op, graph)
        found.extend([op] if replacement is None else replacement)
        changed = changed or replacement is not None
    return graph.with_ops(found) if changed else graph


def replace_values(graph: Graph, mapping: Mapping[Value, Value]) -> Graph:
    """Return the graph with values exchanged wherever they are read, made or given out."""
    if not mapping:
        return graph
    return dataclasses.replace(
        graph,
        ops=tuple(op.rewired(mapping) for op in graph.ops),
        outputs=tuple(mapping.get(v, v) for v in graph.outputs),
    )


def without(graph: Graph, dropped: set[Op]) -> Graph:
    """Return the graph without some operations; the same graph where none is named."""
    return graph.with_ops(op for op in graph.ops if op not in dropped) if dropped else graph


def only_user(graph: Graph, value: Value) -> Op | None:
    """Return the one operation that reads a value; None where others, or users, see it too."""
    users = graph.users(value)
    return users[0] if len(users) == 1 and not graph.is_output(value) else None
