"""Make one table of a chain of operations on 8-bit values: SiLU, hard sigmoid, mish and others.

For drivers whose hardware looks values up, or that would run such a chain step by step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.ir import ops
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.lower.dead import remove_dead
from teflon.ir.ops import rules
from teflon.ir.ops.unary import Unary
from teflon.ir.quantized import dequantize, logistic
from teflon.ir.types import Array

_ELEMENTWISE = (
    Unary, ops.Add, ops.Sub, ops.Mul, ops.Div, ops.Maximum, ops.Minimum, ops.SquaredDifference,
    ops.Quantize, ops.Dequantize, ops.Cast,
)  # fmt: skip
_BYTES = np.arange(256, dtype=np.uint8)
_MOST = 1 << 16  # elements of a constant that is looked at: one for each channel
_CLOSE = 3.0  # steps that a chain may be away from the function it is called after


@dataclass(frozen=True)
class FoldTables:
    """Replace chains of element-wise operations on one 8-bit tensor by a table each.

    A chain begins and ends with an 8-bit tensor of one shape, quantised per tensor or not at all;
    beside it it reads constants of one number only, and nobody else reads what lies between. The
    table has what the chain computes of each of the 256 values, so the graph computes the same
    bits. `accepts` says whether the device wants a table in place of its chain; of what it does not
    want the last operations are offered, from each tensor between that they alone are computed of.
    """

    accepts: Callable[[ops.Table], bool] = lambda op: True
    name: str = "fold_tables"

    def __call__(self, graph: Graph) -> Graph:
        made: dict[Op, ops.Table] = {}
        for end, start in _chains(graph).items():
            for table in _tables(graph, start, end):
                if self.accepts(table):
                    made[graph.producers[end]] = table
                    break
        if not made:
            return graph
        return remove_dead(graph.with_ops(made.get(op, op) for op in graph.ops))


fold_tables = FoldTables()
"""Fold every chain of two operations and more."""


# Where chains begin and end --------------------------------------------------------------------


def _chains(graph: Graph) -> dict[Value, Value]:
    """Return the last tensor of each chain with the first one."""
    ends: set[Value] = set()
    while True:
        starts = _starts(graph, ends)
        seen = {v for v in starts if v not in ends and _is_seen(graph, v, starts)}
        if not seen:
            return {end: starts[end] for end in starts if end in ends}
        ends |= seen
        ends |= {v for end in seen for v in _last_bytes(graph, end) if v in starts}


def _last_bytes(graph: Graph, end: Value) -> Iterator[Value]:
    """Yield the 8-bit tensors of which real numbers that others read are computed."""
    todo, done = [end], set[Value]()
    while todo:
        value = todo.pop()
        if _is_stepped(value):
            yield value
        elif (op := graph.producer(value)) is not None and value not in done:
            done.add(value)
            todo += [v for v in op.inputs_present if not v.is_constant]


def _starts(graph: Graph, ends: set[Value]) -> dict[Value, Value]:
    """Return the tensor of which alone each tensor is computed, element by element."""
    starts: dict[Value, Value] = {}

    def start(value: Value) -> Value:
        return value if value in ends else starts.get(value, value)

    for op in graph.ops:
        read = [v for v in op.inputs_present if not v.is_constant]
        sources = {start(v) for v in read}
        if len(sources) != 1 or not _by_element(op):
            continue
        (source,) = sources
        if _is_stepped(source) and op.results[0].shape == source.shape:
            starts[op.results[0]] = source
    return starts


def _by_element(op: Op) -> bool:
    constants = [v for v in op.inputs_present if v.is_constant]
    return isinstance(op, _ELEMENTWISE) and all(map(_is_one_number, constants))


def _is_one_number(value: Value) -> bool:
    """Whether all elements of a constant are the same."""
    data = rules.present(value.data)
    return 0 < data.size <= _MOST and bool((data == data.reshape(-1)[0]).all())


def _is_seen(graph: Graph, value: Value, starts: Mapping[Value, Value]) -> bool:
    """Whether a tensor is read by others than the chain that it is in."""
    start = starts[value]
    inside = all(starts.get(user.results[0]) is start for user in graph.users(value))
    return graph.is_output(value) or not inside


def _is_stepped(value: Value) -> bool:
    quantization = value.type.quantization
    per_axis = quantization is not None and quantization.per_axis
    return value.type.dtype in rules.EIGHT_BIT and not per_axis


# What a chain computes -------------------------------------------------------------------------


def _tables(graph: Graph, start: Value, end: Value) -> Iterator[ops.Table]:
    """Yield the table of a chain, then those of its ends, as far as they have a result.

    Of one operation there is none: it is what it is.
    """
    chain = _between(graph, start, end)
    for first in (start, *(op.results[0] for op in chain[:-1])):
        if len(chain) < 2 or not _is_stepped(first) or not _is_stepped(end):
            continue
        part = _between(graph, first, end)
        closed = first is start or not any(start in op.inputs_present for op in part)
        if len(part) > 1 and closed and (table := _table(part, first, end)) is not None:
            yield table


def _table(chain: Sequence[Op], start: Value, end: Value) -> ops.Table | None:
    """Return the table of a chain; None where it has no result for one of the 256 values."""
    entries = _BYTES.view(start.type.dtype.numpy)
    try:
        values = _computed(chain, start, entries)[end]
    except UnsupportedOperation:
        return None
    last = chain[-1]
    return ops.Table(
        input=start,
        output=end,
        entries=np.ascontiguousarray(values).tobytes(),
        function=_called(entries, values, start, end) or "+".join(op.kind_name for op in chain),
        location=last.location,
        index=last.index,
    )


def _between(graph: Graph, start: Value, end: Value) -> list[Op]:
    """Return the operations that compute a chain's end, those before its start not among them."""
    needed: set[Op] = set()
    todo = [end]
    while todo:
        op = graph.producer(todo.pop())
        if op is not None and op not in needed:
            needed.add(op)
            todo += [v for v in op.inputs_present if v is not start and not v.is_constant]
    return [op for op in graph.ops if op in needed]


def _computed(chain: Sequence[Op], start: Value, entries: Array) -> dict[Value, Array]:
    """Return every tensor of a chain for the 256 values of the first one."""
    small = {start: _reshaped(start, entries.shape)}
    values: dict[Value, Array] = {start: entries}
    for op in chain:
        for value in op.inputs_present:
            if value.is_constant:
                small[value] = _one_number(value)
                values[value] = rules.present(small[value].data)
        result = op.results[0]
        small[result] = _reshaped(result, entries.shape)
        (values[result],) = op.rewired(small).evaluate(*(values[v] for v in op.inputs_present))
    return values


def _reshaped(value: Value, shape: tuple[int, ...]) -> Value:
    return dataclasses.replace(value, type=dataclasses.replace(value.type, shape=shape))


def _one_number(value: Value) -> Value:
    data = rules.present(value.data).reshape(-1)[0].reshape(())
    return dataclasses.replace(_reshaped(value, ()), data=data)


# What people call it ---------------------------------------------------------------------------


def _softplus(x: Array) -> Array:
    return np.asarray(np.logaddexp(0, x))


def _hard_sigmoid(x: Array) -> Array:
    return np.asarray(np.clip(x / 6 + 0.5, 0, 1))


_FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "SILU": lambda x: x * logistic(x),
    "HARD_SIGMOID": _hard_sigmoid,
    "HARD_SWISH": lambda x: x * _hard_sigmoid(x),
    "SOFTPLUS": _softplus,
    "MISH": lambda x: x * np.tanh(_softplus(x)),
    "GELU": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "ELU": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
}


def _called(entries: Array, values: Array, start: Value, end: Value) -> str:
    """Return the name of the function that a table is nearest to; "" where it is near none."""
    x = dequantize(entries, start.type).astype(np.float64)
    least, most = end.type.dtype.range
    errors: dict[str, float] = {}
    for name, function in _FUNCTIONS.items():
        steps = function(x) / end.type.scale + end.type.zero_point
        errors[name] = float(np.abs(np.clip(steps, least, most) - values).max())
    best = min(errors, key=lambda name: errors[name])
    return best if errors[best] <= _CLOSE else ""
