"""Compute shapes when a file is read: SHAPE of a tensor whose shape is known, and what follows.

Converters write a chain like SHAPE, STRIDED_SLICE, PACK before a RESHAPE, though all of its shapes
are fixed. The chain disappears, and the RESHAPE has a constant operand as others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from teflon.frontend.tflite.node import NodeView
from teflon.ir import Array, Op, Value
from teflon.ir.lower.constants import constant_results

MOST = 64
"""Results of more elements are no shapes; they are left to the graph's passes."""


def folded(op: Op) -> tuple[Value, ...] | None:
    """Return the results of an operation as constants, if they are short and whole numbers."""
    if not all(_is_short(value) for value in (*op.results, *op.inputs_present)):
        return None
    return constant_results(op)


def folded_node(node: NodeView) -> tuple[Value, ...] | None:
    """Return the results of an operator that the IR has no class for, if they follow from shapes.

    None where they do not.
    """
    if node.is_custom or len(node.outputs) != 1 or not _is_whole(node.output):
        return None
    data = _shape_of(node) if node.name in ("SHAPE", "RANK") else _computed(node)
    if data is None or data.size > MOST:
        return None
    kind = node.output.type
    if kind.shape != data.shape and node.output not in node.flexible:
        return None
    array = np.array(data, kind.dtype.numpy)
    array.flags.writeable = False
    return (replace(node.output, type=replace(kind, shape=data.shape), data=array),)


def _is_whole(value: Value) -> bool:
    return value.type.dtype.numpy.kind in "iub" and value.type.quantization is None


def _is_short(value: Value) -> bool:
    return _is_whole(value) and value.type.size <= MOST


def _shape_of(node: NodeView) -> Array | None:
    if len(node.inputs) != 1 or node.inputs[0] is None or node.inputs[0].type.dynamic:
        return None
    shape = node.inputs[0].shape
    if max(shape, default=0) > np.iinfo(node.output.type.dtype.numpy).max:
        return None
    return np.array(len(shape) if node.name == "RANK" else shape, np.int64)


def _computed(node: NodeView) -> Array | None:
    rule = _RULES.get(node.name)
    values = [v for v in node.inputs if v is not None]
    if rule is None or len(values) != len(node.inputs) or not all(map(_is_short, values)):
        return None
    operands = [v.data for v in values if v.data is not None]
    if len(operands) != len(values):
        return None
    try:
        return rule(node, *operands)
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError):
        return None


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda node, a, b: np.asarray(function(a, b))


def _floor(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def rule(node: NodeView, a: Array, b: Array) -> Array:
        if not np.all(b):
            raise ZeroDivisionError
        return np.asarray(function(a, b))

    return rule


def _range(node: NodeView, start: Array, limit: Array, delta: Array) -> Array:
    if not delta.item() or abs(int(limit.item()) - int(start.item())) > MOST * abs(delta.item()):
        raise ValueError
    return np.arange(start.item(), limit.item(), delta.item())


def _fill(node: NodeView, dims: Array, value: Array) -> Array:
    return np.full(_few(dims), value.item())


def _broadcast_to(node: NodeView, x: Array, dims: Array) -> Array:
    return np.broadcast_to(x, _few(dims))


def _few(dims: Array) -> tuple[int, ...]:
    shape = tuple(int(n) for n in dims.reshape(-1))
    if min(shape, default=0) < 0 or math.prod(shape) > MOST:
        raise ValueError
    return shape


def _broadcast_args(node: NodeView, a: Array, b: Array) -> Array:
    return np.array(np.broadcast_shapes(tuple(a.tolist()), tuple(b.tolist())), np.int64)


def _product(node: NodeView, x: Array, axes: Array) -> Array:
    wanted = tuple(int(axis) for axis in axes.reshape(-1))
    keep = bool(node.option("keep_dims")) if node.options_type else False
    return np.asarray(np.prod(x, axis=wanted, keepdims=keep, dtype=x.dtype))


def _select(node: NodeView, condition: Array, a: Array, b: Array) -> Array:
    return np.asarray(np.where(condition.astype(bool), a, b))


_RULES: Mapping[str, Callable[..., Array]] = {
    "FLOOR_MOD": _floor(np.mod), "FLOOR_DIV": _floor(np.floor_divide), "RANGE": _range,
    "FILL": _fill, "BROADCAST_TO": _broadcast_to, "BROADCAST_ARGS": _broadcast_args,
    "REDUCE_PROD": _product, "EQUAL": _binary(np.equal), "NOT_EQUAL": _binary(np.not_equal),
    "LESS": _binary(np.less), "LESS_EQUAL": _binary(np.less_equal),
    "GREATER": _binary(np.greater), "GREATER_EQUAL": _binary(np.greater_equal),
    "LOGICAL_AND": _binary(np.logical_and), "LOGICAL_OR": _binary(np.logical_or),
    "LOGICAL_NOT": lambda node, x: np.logical_not(x),
    "SELECT": _select, "SELECT_V2": _select,
    "ZEROS_LIKE": lambda node, x: np.zeros_like(x),
}  # fmt: skip
"""Operators without a class in the IR that chains of shapes have -> how they compute."""
