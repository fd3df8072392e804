# Ref: docs/hardware/rocket.md §5.1, §5.3 (failure modes)
"""What Mesa 26.2.6 accepts and then crashes on, or takes for something else altogether."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D
from teflon.ir.types import DType
from teflon_rocket.mesa.extremes import extreme


def veto(graph: Graph) -> dict[Op, str]:
    """Return operations that cannot stay in this partition, with the reason."""
    made: set[Value] = set()
    taken: set[Value] = set()
    refused: dict[Op, str] = {}
    for op in graph.ops:
        problem = _maps(op)
        if isinstance(op, Add) and (op.a in taken or not _is_hosted(op, graph, made)):
            problem = "Mesa crashes: no convolution of the partition makes the first operand"
        elif isinstance(op, Conv2D | DepthwiseConv2D) and not problem:
            problem = _constants(op) or extreme(op, graph)
        if problem:
            refused[op] = problem
        elif isinstance(op, Add):
            taken.add(op.a)
        made.update(op.results)
    return refused


def _maps(op: Op) -> str:
    """Return why feature maps are not what Mesa takes them for; empty where they are."""
    maps = (op.a, op.b, op.output) if isinstance(op, Add) else (op.operands[0], op.results[0])
    shapes = [v.shape for v in maps if v is not None]
    if any(v is None or v.type.dtype not in (DType.UINT8, DType.INT8) for v in maps):
        return "Mesa takes every tensor for one of bytes"
    if any(len(s) != 4 for s in shapes) or (isinstance(op, Add) and len(set(shapes)) > 1):
        return f"Mesa takes every tensor for a map of four axes, shapes are {shapes}"
    images = shapes[0][0]
    return "" if images == 1 else f"Mesa computes only the first of {images} images"


def _constants(op: Conv2D | DepthwiseConv2D) -> str:
    """Return why a convolution's constants are not what Mesa takes them for."""
    if op.bias is None or op.bias.data is None:
        return "Mesa reads the bias of a convolution that has none"
    channels, results = op.input.shape[3], op.output.shape[3]
    if isinstance(op, DepthwiseConv2D) and channels not in (1, results):
        return f"Mesa takes the depth multiplier {results // channels} for 1"
    if isinstance(op, Conv2D) and op.weights.shape[3] != channels:
        return "Mesa takes a grouped convolution for one of all channels"
    return "" if op.weights.data is not None else "Mesa takes computed weights for constant ones"


def _is_hosted(add: Add, graph: Graph, made: set[Value]) -> bool:
    """Whether a convolution makes the first operand, and a buffer for the second exists."""
    producer = graph.producer(add.a)
    known = any(add.b in u.inputs_present for u in graph.ops if not isinstance(u, Add))
    return isinstance(producer, Conv2D | DepthwiseConv2D) and (add.b in made or known)
