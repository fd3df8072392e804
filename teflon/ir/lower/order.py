"""One order for operations that do not depend on each other, whatever tool wrote the file."""

from __future__ import annotations

from teflon.ir.graph import Graph, Op


def order_operations(graph: Graph) -> Graph:
    """Put operations in the order in which the outputs need them, depth first.

    The same network comes as several files whose independent operations are in another order, as a
    .tflite file and as an .onnx file that was made of it. Here they become one graph, and their
    programs are equal. A branch ends before the next one begins, which needs little memory.
    Operations that no output needs come last, in their old order.
    """
    order: dict[Op, None] = {}
    for value in graph.outputs:
        _take(graph, graph.producer(value), order)
    for op in graph.ops:
        _take(graph, op, order)
    return graph if tuple(order) == graph.ops else graph.with_ops(order)


def _take(graph: Graph, last: Op | None, order: dict[Op, None]) -> None:
    """Append an operation behind those that it needs."""
    stack: list[tuple[Op, bool]] = [] if last is None else [(last, False)]
    while stack:
        op, ready = stack.pop()
        if ready:
            order.setdefault(op)
        elif op not in order:
            stack.append((op, True))
            makers = [graph.producer(v) for v in reversed(op.inputs_present)]
            stack.extend((maker, False) for maker in makers if maker is not None)
