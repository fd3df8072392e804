"""Shorten chains of operations that only change the shape."""

from __future__ import annotations

from collections.abc import Sequence

from teflon.ir.graph import Graph, Op
from teflon.ir.ops import Reshape, Squeeze
from teflon.ir.rewrite import rewrite


def merge_reshapes(graph: Graph) -> Graph:
    """Let a RESHAPE or SQUEEZE that follows another one read what the first one read.

    The first stays for its other readers; `remove_dead` takes it away where there are none.
    """
    return rewrite(graph, _merge)


def _merge(op: Op, graph: Graph) -> Sequence[Op] | None:
    if not isinstance(op, Reshape | Squeeze):
        return None
    source = op.input
    while isinstance(first := graph.producer(source), Reshape | Squeeze):
        if first.input.type.quantization != source.type.quantization:
            break
        source = first.input
    if source is op.input:
        return None
    return [Reshape(input=source, output=op.output, location=op.location, index=op.index)]
