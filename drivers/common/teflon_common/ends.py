"""Operations that are not worth the NPU's time, by the model of time.

In the middle of a partition every operation stays, since the host would have to copy a feature map
twice. At an end it only decides which map is copied. A partition without multiplications is for
models that have no others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from teflon.errors import EncodingError, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.pipe import HOST, Cost

Costs = Callable[[Graph], Iterable[Cost]]
"""Compiles a graph and says what it costs. May raise EncodingError, UnsupportedOperation."""

LAUNCH = "launch"
"""What models of time call the start of jobs."""


class _Time(NamedTuple):
    """Milliseconds: of the NPU, of starting its jobs, of the host's copies around."""

    npu: float
    launch: float
    copies: float


def not_worth_it(graph: Graph, model: Graph, costs: Costs, host: float) -> Mapping[Op, str]:
    """Return the operations of a partition that the host should run, with the reason.

    host: bytes that the host moves in a millisecond.

    At the ends these are operations without multiplications that take the NPU longer than the host
    needs to copy their inputs and results. Of a model with multiplications elsewhere, they are all
    operations of a partition that takes longer, with its copies and its start, than the host needs
    to pass over what each operation reads and writes.
    """
    if any(op.macs for op in graph.ops):
        return _dear_ends(graph, costs)
    if any(op.macs for op in model.ops):
        return _dear_whole(graph, costs, host)
    return {}


def _dear_ends(graph: Graph, costs: Costs) -> Mapping[Op, str]:
    found: dict[Op, str] = {}
    seen: set[Op] = set()
    waiting = True
    while waiting:
        left = [op for op in graph.ops if op not in found]
        ends = [op for op in _ends(left) if not op.macs and op not in seen]
        seen.update(ends)
        reasons = {op: _dear_end(_time(graph.subgraph([op]), costs)) for op in ends}
        found |= {op: reason for op, reason in reasons.items() if reason}
        waiting = any(reasons.values())
    return found


def _ends(ops: Sequence[Op]) -> Iterator[Op]:
    """Yield operations whose results none of the others reads, or which read none of theirs."""
    made = {value for op in ops for value in op.results}
    read = {value for op in ops for value in op.inputs_present}
    for op in ops:
        if not made.intersection(op.inputs_present) or not read.intersection(op.results):
            yield op


def _dear_end(time: _Time | None) -> str:
    if time is None or time.npu <= time.copies:
        return ""
    return (
        f"at the end of a partition it would take the NPU {time.npu:.3g} ms, more than the"
        f" {time.copies:.3g} ms of copying its inputs and results"
    )


def _dear_whole(graph: Graph, costs: Costs, host: float) -> Mapping[Op, str]:
    whole = _time(graph, costs)
    if whole is None:
        return {}
    touched = sum(value.type.size_bytes for op in graph.ops for value in _maps(op))
    passing = touched / host
    if sum(whole) <= passing:
        return {}
    reason = (
        f"apart from the convolutions it would take {sum(whole):.3g} ms with copies and start, more"
        f" than the {passing:.3g} ms in which the host passes over as many bytes"
    )
    return dict.fromkeys(graph.ops, reason)


def _maps(op: Op) -> Iterator[Value]:
    yield from (value for value in op.inputs_present if not value.is_constant)
    yield from op.results


def _time(graph: Graph, costs: Costs) -> _Time | None:
    """Return the modelled time of a graph; None where it cannot be compiled, which is told then."""
    try:
        every = [cost.milliseconds for cost in costs(graph)]
    except (EncodingError, UnsupportedOperation):
        return None
    whole = sum(sum(times.values()) for times in every)
    copies, launch = (sum(times.get(name, 0.0) for times in every) for name in (HOST, LAUNCH))
    return _Time(whole - copies - launch, launch, copies)
