"""Powers of two moved from a depthwise layer into the layer before it, channel by channel.

A channel that is small wherever it is computed can be computed larger: its scale grows by a power
of two, the depthwise layer's scale for it shrinks by the same. That brings scales nearer to one
another in both layers. It is done where nobody else reads the tensor between them, and as far as no
input whatsoever can drive the channel to the end of its range, so no clamp comes to cut more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon_etnaviv.exact.grouping.kernels import F64, kernels_of, per_channel
from teflon_etnaviv.exact.layers.activation import integer_range

_MOST = 2.0**10
_BIAS_MOST = 2.0**30

Layer = Conv2D | DepthwiseConv2D


def equalised(graph: Graph) -> Graph:
    """Return a graph in which scales are nearer to one another; the graph itself where none are
    moved.
    """
    changed: dict[Op, Layer] = {}
    for op in graph.ops:
        user = _partner(op, graph)
        if user is None or not isinstance(op, Conv2D | DepthwiseConv2D):
            continue
        factors = _factors(op, user)
        if (factors > 1).any():
            changed[op] = _larger(changed.get(op, op), factors)
            changed[user] = _smaller(user, factors)
    return graph.with_ops(changed.get(op, op) for op in graph.ops) if changed else graph


def _partner(op: Op, graph: Graph) -> DepthwiseConv2D | None:
    """Return the depthwise layer that alone reads the result of a layer, if both have a scale for
    each channel.
    """
    if not isinstance(op, Conv2D | DepthwiseConv2D) or not _is_known(op):
        return None
    users = graph.users(op.output)
    if graph.is_output(op.output) or len(users) != 1:
        return None
    user = users[0]
    if not isinstance(user, DepthwiseConv2D) or user.output.shape[3] != op.output.shape[3]:
        return None
    return user if user.input is op.output and _is_known(user) else None


def _is_known(op: Layer) -> bool:
    """Whether a layer has a scale for each channel and a bias, both constant."""
    grouped = isinstance(op, Conv2D) and op.weights.shape[3] != op.input.shape[3]
    constant = op.weights.is_constant and op.bias is not None and op.bias.is_constant
    return constant and not grouped and per_channel(op)


def _factors(op: Layer, user: DepthwiseConv2D) -> F64:
    """Return the power of two for each channel: the largest scale is not exceeded, the result's
    range is kept, and the other layer's bias stays in 32 bits.
    """
    scales = np.array(op.weights.type.quantization.scales)  # type: ignore[union-attr]
    bias = kernels_of(user).bias
    room = np.minimum(_room(op), scales.max() / np.maximum(scales, 1e-30))
    room = np.minimum(room, _BIAS_MOST / np.maximum(np.abs(bias.astype(float)), 1))
    found: F64 = 2.0 ** np.floor(np.log2(np.clip(room, 1, _MOST)))
    return found


def _room(op: Layer) -> F64:
    """Return how many times larger each channel may become, whatever the inputs are."""
    kernels = kernels_of(op)
    weights = kernels.less_zero()
    low, high = op.input.type.dtype.range
    zero = op.input.type.zero_point
    positive = np.maximum(weights, 0).sum(axis=1, dtype=np.float64)
    negative = positive - weights.sum(axis=1, dtype=np.float64)
    factor = kernels.scales * op.input.type.scale / op.output.type.scale
    top = (positive * (high - zero) + negative * (zero - low) + kernels.bias) * factor
    bottom = (-positive * (zero - low) - negative * (high - zero) + kernels.bias) * factor
    least, most = integer_range(op)
    out = op.output.type.zero_point
    if least > out:
        return np.ones(kernels.channels)
    found: F64 = (most - out) / np.maximum(top, 1e-9)
    if least < out:
        found = np.minimum(found, (out - least) / np.maximum(-bottom, 1e-9))
    return found


def _scaled(value: Value, factors: F64) -> Value:
    kind = value.type.quantization
    assert kind is not None, "it has several scales"
    scales = np.array(kind.scales, np.float64) * factors
    zeros = kind.zero_points if len(kind.zero_points) > 1 else kind.zero_points * len(factors)
    rounded = scales.astype(np.float32).tolist()
    new = replace(kind, scales=tuple(rounded), zero_points=zeros)
    return replace(value, type=replace(value.type, quantization=new))


def _larger(op: Layer, factors: F64) -> Layer:
    """Return a layer with larger results: sums are the same, their scales larger."""
    return replace(op, weights=_scaled(op.weights, factors))


def _smaller(op: DepthwiseConv2D, factors: F64) -> DepthwiseConv2D:
    """Return a layer for inputs that are larger by these factors: so are its sums, and its bias."""
    assert op.bias is not None, "it has one"
    assert op.bias.data is not None, "it is constant"
    data = np.asarray((op.bias.data.astype(np.float64) * factors).astype(np.int32))
    bias = replace(op.bias, data=data)
    return replace(op, weights=_scaled(op.weights, 1 / factors), bias=bias)
