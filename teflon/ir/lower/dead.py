"""Remove operations whose results nobody reads: left over by other passes, or in the file."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Opaque
from teflon.ir.rewrite import without


def remove_dead(graph: Graph) -> Graph:
    """Drop operations that no output depends on.

    Opaque ones stay: what they do beyond their results is not known.
    """
    wanted: set[Value] = set(graph.outputs)
    dead: set[Op] = set()
    for op in reversed(graph.ops):
        if isinstance(op, Opaque) or not wanted.isdisjoint(op.results):
            wanted.update(op.inputs_present)
        else:
            dead.add(op)
    return without(graph, dead)
