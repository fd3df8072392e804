# Ref: docs/hardware/rocket_vendor.md §0.6, §1 (LeakyReLU, PReLU: BN multiplies negative values)
"""LEAKY_RELU and PRELU behind a convolution: BN multiplies what is below zero in the same pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from teflon.errors import LimitExceeded
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    Prelu,
    TransposeConv,
)
from teflon.ir.types import Array
from teflon_rocket.exact.channels import Target, scaled
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.layers import Layer, clamp_of, layers
from teflon_rocket.exact.partial import is_whole
from teflon_rocket.exact.places import default_feature
from teflon_rocket.exact.scales import Affine, channel_bounds
from teflon_rocket.exact.state import Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature

Bend = LeakyRelu | Prelu
Host = Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv

_ERROR = 0.98
"""Largest distance, before rounding, from the reference of both: below 1 results are at most a step
apart."""
_ALL = (0, 255)


def bends(graph: Graph) -> dict[Op, Op]:
    """Return the activations that the convolution before them does, with that convolution."""
    found: dict[Op, Op] = {}
    for op in graph.ops:
        if isinstance(op, LeakyRelu | Prelu):
            host = graph.producer(op.input)
            alone = graph.users(op.input) == (op,) and not graph.is_output(op.input)
            if isinstance(host, Host) and alone and _stays_near(op, host):
                found[op] = host
    return found


def slopes(op: Bend) -> Array:
    """Return the slopes below zero: one, or one for each channel."""
    if isinstance(op, LeakyRelu):
        return np.array([op.alpha])
    assert op.alpha.data is not None  # a rule: constant
    steps = op.alpha.data.astype(np.int64).reshape(-1) - op.alpha.type.zero_point
    return steps * float(np.float32(op.alpha.type.scale))


def bent(op: Bend, host: Op, state: Lowering) -> Iterator[Operation]:
    """Yield the convolutions that compute a convolution and the activation behind it."""
    source = state.features[host.inputs_present[0]]
    *before, last = _layers(op, host, source, state.features[op.output])
    for layer in (*before, last):
        yield from convolutions(layer, state.chip, layer.output in state.added)


def _layers(op: Bend, host: Op, source: Feature, output: Feature) -> list[Layer]:
    """Return the layers of the host; the last one bends what it makes and quantises it anew."""
    *before, last = layers(host, source, output)
    result = Affine.of(op.output.type)
    return [*before, dataclasses.replace(last, result=result, clamp=_ALL, slopes=slopes(op))]


def _stays_near(op: Bend, host: Host) -> bool:
    """Whether the result is at most a step from the reference of both operations.

    The reference rounds and limits the convolution's own result. That moves the result by half of
    its step, and by what of the result lies beyond those limits.
    """
    if clamp_of(host) != _ALL or not _constant(op, host) or not is_whole(host):
        return False
    own, after = Affine.of(op.input.type), Affine.of(op.output.type)
    size = np.abs(slopes(op))
    if size.max() > 1 or not size.max():
        return False
    features = [default_feature(v, False) for v in (host.input, op.output)]
    last = _layers(op, host, *features)[-1]
    units = np.full(last.geometry.out_channels, last.unit)
    units = units if last.units is None else last.units
    target = Target(after.scale, after.zero, _ALL)
    try:
        found = scaled(last.coefs, units, target, last.name, last.slopes)
    except LimitExceeded:
        return False
    step, ratio = units / after.scale, own.scale / after.scale
    error = found.error + ratio / 2 + np.minimum(step, ratio / 4) + _beyond(op, last, step)
    return bool(error.max() <= _ERROR)


def _constant(op: Bend, host: Host) -> bool:
    """Whether slopes and weights are constant, and there is one slope, or one for each channel."""
    if not host.weights.is_constant or (host.bias is not None and not host.bias.is_constant):
        return False
    if isinstance(op, LeakyRelu):
        return bool(np.isfinite(op.alpha))
    channels = op.output.shape[-1] if op.output.shape else 1
    return op.alpha.is_constant and op.alpha.type.size in (1, channels) and _last(op.alpha)


def _last(alpha: Value) -> bool:
    """Whether a slope's only axis of more than 1 is the last one."""
    return all(size == 1 for size in alpha.shape[:-1])


def _beyond(op: Bend, layer: Layer, step: Array) -> Array:
    """Return how far the output goes beyond what the limits of the host's own result leave of it,
    in its steps, for each channel.
    """
    own, after, slope = Affine.of(op.input.type), Affine.of(op.output.type), slopes(op)
    ratio = own.scale / after.scale
    low, high = (edge * step for edge in channel_bounds(layer.coefs))
    most, least = (255 - own.zero) * ratio, -own.zero * ratio
    above = np.minimum(high, 255 - after.zero) - np.minimum(high, most)
    kept, all_of_it = np.maximum(low, least) * slope, low * slope
    limits = -after.zero, 255 - after.zero
    below = np.abs(np.clip(all_of_it, *limits) - np.clip(kept, *limits))
    larger: Array = np.maximum(np.maximum(above, 0), below)
    return larger
