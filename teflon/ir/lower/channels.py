"""Give output channels that never move a result the scale of their neighbours.

Quantisers give a channel whose weights are all zero, or next to it, a scale near the smallest
float. It changes no result, but hardware brings all scales of a layer together, and none spans
1e-35 and 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops.accumulating import Accumulating
from teflon.ir.rewrite import rewrite
from teflon.ir.types import Array, DType, Quantization

_FAR = 2.0**-20
"""A scale below this part of the largest one is looked at."""
_STILL = 0.25
"""Steps of the output: less than that rounds to the zero point, whatever the rounding."""


def level_channels(graph: Graph) -> Graph:
    """Set weights and bias of channels that contribute nothing to zero, their scale to the largest.

    Exact: what a channel adds up, times its factor, is less than a quarter of a step for every
    input. Such channels come out as the zero point before and after.
    """
    return rewrite(graph, _levelled)


def _levelled(op: Op, _: Graph) -> list[Op] | None:
    if not isinstance(op, Accumulating) or op.input.type.dtype is not DType.INT8:
        return None
    kind = op.weights.type.quantization
    if kind is None or kind.axis != op.output_axis or op.weights.data is None:
        return None
    if op.bias is not None and op.bias.data is None:
        return None
    scales = np.array(kind.scales)
    far = scales < scales.max() * _FAR
    if not far.any():
        return None
    found = np.flatnonzero(far & (_reach(op, scales) < _STILL))
    return [_with_zeros(op, found, float(scales.max()))] if found.size else None


def _reach(op: Accumulating, scales: Array) -> Array:
    """Return for each output channel the most that its sums can be, in steps of the output."""
    assert op.weights.data is not None
    low, high = op.input.type.dtype.range
    zero = op.input.type.zero_point
    others = tuple(n for n in range(op.weights.type.rank) if n != op.output_axis)
    sums = np.abs(op.weights.data.astype(np.int64)).sum(axis=others) * max(high - zero, zero - low)
    if op.bias is not None and op.bias.data is not None:
        sums = sums + np.abs(op.bias.data.astype(np.int64))
    return np.asarray(sums * scales * op.input.type.scale / op.output.type.scale)


def _with_zeros(op: Accumulating, channels: Array, scale: float) -> Op:
    assert op.weights.data is not None
    weights = _zeroed(op.weights, op.output_axis, channels, scale)
    bias = op.bias
    if bias is not None:
        bias = _zeroed(bias, 0, channels, scale * op.input.type.scale)
    return dataclasses.replace(op, weights=weights, bias=bias)


def _zeroed(value: Value, axis: int, channels: Array, scale: float) -> Value:
    """Return a constant with zeros and another scale for some indices of an axis."""
    assert value.data is not None
    data = value.data.copy()
    np.moveaxis(data, axis, 0)[channels] = 0
    data.flags.writeable = False
    kind = value.type.quantization
    if kind is not None and kind.per_axis:
        scales = np.array(kind.scales)
        scales[channels] = np.float32(scale)
        kind = Quantization(tuple(map(float, scales)), kind.zero_points, kind.axis)
    return Value(value.name, dataclasses.replace(value.type, quantization=kind), data)
