"""Run a graph, one operation after another: the reference, and the engine of the CPU driver."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from teflon import trace
from teflon.errors import OptionError
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Array

Observer = Callable[[Op, Sequence[Array | None], Sequence[Array]], None]
"""Called after every operation with its operands and results (do not change them)."""


def run(
    graph: Graph,
    inputs: Mapping[Value, Array] | Sequence[Array],
    observer: Observer | None = None,
) -> list[Array]:
    """Return the outputs, in the graph's order.

    `inputs` are in the graph's order, or by value. Values are freed after their last use. Raises
    OptionError where inputs are missing or of another type, UnsupportedOperation where an
    operation cannot be computed.
    """
    values = _inputs(graph, inputs)
    left = _uses(graph)
    for op in graph.ops:
        operands = [None if v is None else _read(v, values) for v in op.operands]
        with trace.span(op.where, operation=op.tflite_name):
            results = op.evaluate(*operands)
        for value, result in zip(op.results, results, strict=True):
            if left[value]:
                values[value] = result
        if observer is not None:
            observer(op, operands, results)
        _free(op, values, left)
    return [_read(v, values) for v in graph.outputs]


def _inputs(graph: Graph, inputs: Mapping[Value, Array] | Sequence[Array]) -> dict[Value, Array]:
    if isinstance(inputs, Mapping):
        missing = [v.name for v in graph.inputs if v not in inputs]
        if missing:
            raise OptionError(f"{graph.name}: no array for input {missing[0]!r}")
        arrays = [inputs[v] for v in graph.inputs]
    else:
        arrays = list(inputs)
        if len(arrays) != len(graph.inputs):
            raise OptionError(
                f"{graph.name}: {len(arrays)} arrays given, must be {len(graph.inputs)}"
            )
    for value, array in zip(graph.inputs, arrays, strict=True):
        _check(value, array)
    return dict(zip(graph.inputs, arrays, strict=True))


def _check(value: Value, array: Array) -> None:
    want = value.type
    if not isinstance(array, np.ndarray):
        raise OptionError(f"input {value.name!r}: is a {type(array).__name__}, must be an array")
    if array.shape != want.shape or array.dtype != want.dtype.numpy:
        raise OptionError(
            f"input {value.name!r}: is {array.dtype}{list(array.shape)},"
            f" must be {want.dtype.numpy}{list(want.shape)}"
        )


def _uses(graph: Graph) -> Counter[Value]:
    """Count how often each value is read: by operations, and as an output of the graph."""
    uses = Counter(v for op in graph.ops for v in op.inputs_present)
    uses.update(graph.outputs)
    return uses


def _read(value: Value, values: Mapping[Value, Array]) -> Array:
    return values[value] if value.data is None else value.data


def _free(op: Op, values: dict[Value, Array], left: Counter[Value]) -> None:
    for value in op.inputs_present:
        left[value] -= 1
        if not left[value]:
            values.pop(value, None)
