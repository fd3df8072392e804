"""Operations at the ends of a partition that are not worth the NPU's time.

In the middle of a partition every operation stays, since the host would have to copy a feature map
twice. At an end it only decides which map is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from teflon.errors import EncodingError, UnsupportedOperation
from teflon.ir.graph import Graph, Op
from teflon.pipe import HOST
from teflon_rocket.program import RocketProgram

Compile = Callable[[Op], RocketProgram]
"""Compiles an operation alone."""


def not_worth_it(graph: Graph, compiled: Compile) -> Mapping[Op, str]:
    """Return operations at the ends of a partition which take the NPU longer than the host needs to
    copy their inputs and results, with the reason.

    Operations with multiplications stay, and so does a partition that has none.
    """
    found: dict[Op, str] = {}
    if not any(op.macs for op in graph.ops):
        return found
    waiting = True
    while waiting:
        left = [op for op in graph.ops if op not in found]
        reasons = {op: _reason(op, compiled) for op in _ends(left) if not op.macs}
        dear = {op: reason for op, reason in reasons.items() if reason}
        found |= dear
        waiting = bool(dear)
    return found


def _ends(ops: Sequence[Op]) -> Iterator[Op]:
    """Yield operations whose results none of the others reads, or which read none of theirs."""
    made = {value for op in ops for value in op.results}
    read = {value for op in ops for value in op.inputs_present}
    for op in ops:
        if not made.intersection(op.inputs_present) or not read.intersection(op.results):
            yield op


def _reason(op: Op, compiled: Compile) -> str:
    from teflon_rocket import timing  # for the ends of partitions only

    try:
        costs = timing.costs(compiled(op))
    except (EncodingError, UnsupportedOperation):  # that is said when the whole is compiled
        return ""
    copies = sum(cost.milliseconds.get(HOST, 0.0) for cost in costs)
    work = sum(sum(cost.milliseconds.values()) for cost in costs if cost.engine != HOST)
    launch = sum(cost.milliseconds.get("launch", 0.0) for cost in costs)  # others pay it as well
    if work - launch <= copies:
        return ""
    return (
        f"at the end of a partition it would take the NPU {work - launch:.3g} ms, more than the"
        f" {copies:.3g} ms of copying its inputs and results"
    )
