"""What inputs of layers are expected to be: mean and variance of each channel, without any data.

They follow from weights and biases: a sum of many products is taken to be normally distributed,
clamps cut the distribution off, and nothing is known of a partition's inputs but their zero point.
What comes out is rough, but tells channels that are mostly 0 from those that are not. That is all
that is needed: the errors of rounded weights, times the means of their inputs, go into the biases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mean,
    Pad,
    Quantize,
    Relu,
    Reshape,
    Sub,
)
from teflon_etnaviv.exact.grouping.kernels import F32, F64, Kernels, Weighted, kernels_of
from teflon_etnaviv.exact.layers.activation import integer_range

_CENTRED, _ONE_SIDED = 0.125, 0.1
"""Standard deviation of an unknown tensor as a share of its range; mean where all of it lies on one
side of the zero point.
"""


@dataclass(frozen=True, eq=False)
class Spread:
    """Means and variances of a value's channels, in steps from its zero point."""

    mean: F64
    variance: F64


class Expected:
    """The spreads of a graph's values."""

    def __init__(self, graph: Graph) -> None:
        self._known: dict[Value, Spread] = {}
        self._kernels: dict[Op, Kernels] = {}
        self._sums: dict[Op, F64] = {}
        for op in graph.ops:
            found = self._result(op)
            if found is not None:
                self._known[op.results[0]] = found

    def of(self, value: Value) -> Spread:
        """Return the spread of a value, a guess where nothing is known."""
        found = self._known.get(value)
        return unknown(value) if found is None else found

    def inputs(self, op: Weighted) -> Spread:
        """Return the spread of a layer's input channels; where these are not those that its kernels
        have weights for, that of all together.
        """
        found = self.of(op.input)
        if isinstance(op, DepthwiseConv2D) or len(found.mean) == op.weights.shape[-1]:
            return found
        depth = op.weights.shape[-1]
        return Spread(*(np.full(depth, part.mean()) for part in (found.mean, found.variance)))

    def kernels(self, op: Weighted) -> Kernels:
        """Return the kernels of an operation, made once."""
        if op not in self._kernels:
            self._kernels[op] = kernels_of(op)
        return self._kernels[op]

    def sums(self, op: Weighted) -> F64:
        """Return what each kernel of a layer is expected to sum up: weights less their zero point,
        times inputs less theirs.
        """
        if op not in self._sums:
            self._sums[op] = times(op, self.kernels(op).less_zero(), self.inputs(op).mean)
        return self._sums[op]

    def square(self, op: Weighted) -> float:
        """Return the mean square of inputs, as far as it is noise: most of the means goes into
        biases.
        """
        found = self.inputs(op)
        return float((found.variance + found.mean**2 / 4).mean())

    def _result(self, op: Op) -> Spread | None:
        if isinstance(op, Conv2D | DepthwiseConv2D | FullyConnected):
            return self._layer(op) if op.weights.is_constant else None
        if isinstance(op, Add | Sub):
            return self._sum(op)
        if isinstance(op, Relu | Quantize | Pad | Reshape | AveragePool2D | Mean | MaxPool2D):
            return self._passed(op)
        return None

    def _layer(self, op: Weighted) -> Spread:
        kernels, source = self.kernels(op), self.inputs(op)
        weights = kernels.less_zero()
        self._sums[op] = times(op, weights, source.mean)
        mean = self._sums[op] + kernels.bias
        # neighbours are alike: halfway between independent pixels and equal ones
        taps = _over_taps(op, weights)
        alike = apart = times(op, np.square(taps), source.variance)
        if taps is not weights:
            apart = times(op, np.square(weights), source.variance)
        factor = kernels.scales * op.input.type.scale / op.output.type.scale
        return clamped(op, Spread(mean * factor, (apart + alike) / 2 * factor**2))

    def _sum(self, op: Add | Sub) -> Spread:
        a, b = self.of(op.a), self.of(op.b)
        one = op.a.type.scale / op.output.type.scale
        other = op.b.type.scale / op.output.type.scale * (-1 if isinstance(op, Sub) else 1)
        mean = a.mean * one + b.mean * other
        return clamped(op, Spread(mean, a.variance * one**2 + b.variance * other**2))

    def _passed(
        self, op: Relu | Quantize | Pad | Reshape | AveragePool2D | Mean | MaxPool2D
    ) -> Spread | None:
        source, channels = self.of(op.input), _channels(op.output)
        if len(source.mean) != channels:
            return None
        ratio = op.input.type.scale / op.output.type.scale
        mean, variance = source.mean * ratio, source.variance * ratio**2
        if isinstance(op, MaxPool2D):
            mean = mean + np.sqrt(variance)
        if isinstance(op, Relu):
            zero = op.output.type.zero_point
            return cut_off(Spread(mean, variance), 0, op.output.type.dtype.range[1] - zero)
        return Spread(mean, variance)


def _channels(value: Value) -> int:
    return value.shape[-1] if value.shape else 1


def unknown(value: Value) -> Spread:
    """Return the spread of a value of which only the type is known."""
    low, high = value.type.dtype.range
    zero, size = value.type.zero_point, high - low
    mean = _ONE_SIDED * size * ((zero - low < size / 8) - (high - zero < size / 8))
    channels = _channels(value)
    return Spread(np.full(channels, mean), np.full(channels, (_CENTRED * size) ** 2))


def times(op: Weighted, weights: F32, inputs: F64) -> F64:
    """Return the sums of products of kernels with something of each input channel."""
    if isinstance(op, DepthwiseConv2D):
        each = np.repeat(inputs, len(weights) // len(inputs))
        found: F64 = weights.sum(axis=1, dtype=np.float64) * each
        return found
    repeated = np.tile(inputs, weights.shape[1] // len(inputs)).astype(np.float32)
    products: F64 = (weights @ repeated).astype(np.float64)
    return products


def _over_taps(op: Weighted, weights: F32) -> F32:
    """Return the sums of a kernel's weights for each input channel; the weights themselves where
    there is one tap.
    """
    depth = 1 if isinstance(op, DepthwiseConv2D) else op.weights.shape[-1]
    if weights.shape[1] == depth:
        return weights
    found: F32 = weights.reshape(len(weights), -1, depth).sum(axis=1)
    return found


def clamped(op: Weighted | Add | Sub, found: Spread) -> Spread:
    """Return the spread of an operation's result after its clamp."""
    low, high = integer_range(op)
    zero = op.output.type.zero_point
    return cut_off(found, low - zero, high - zero)


def cut_off(found: Spread, low: float, high: float) -> Spread:
    """Return the spread of a normally distributed value that is clamped."""
    deviation = np.sqrt(found.variance) + 1e-6
    a, b = (low - found.mean) / deviation, (high - found.mean) / deviation
    below, above = _share_below(a), 1 - _share_below(b)
    inside = 1 - below - above
    at_a, at_b = _density(a), _density(b)
    mean = low * below + high * above + found.mean * inside + deviation * (at_a - at_b)
    a, b = np.clip(a, -9, 9), np.clip(b, -9, 9)
    square = (found.mean**2 + deviation**2) * inside
    square += 2 * found.mean * deviation * (at_a - at_b) + deviation**2 * (a * at_a - b * at_b)
    square += low**2 * below + high**2 * above
    return Spread(mean, np.maximum(square - mean**2, 0))


def _density(x: F64) -> F64:
    found: F64 = np.exp(-np.square(np.clip(x, -30, 30)) / 2) / np.sqrt(2 * np.pi)
    return found


def _share_below(x: F64) -> F64:
    """Return the normal distribution's share below x, within 0.0005."""
    x = np.clip(x, -9, 9)
    found: F64 = 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return found
