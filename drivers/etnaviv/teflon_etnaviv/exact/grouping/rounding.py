"""One scale for a group of kernels: weights are rounded again, biases in 32 bits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from teflon_etnaviv import _coefs
from teflon_etnaviv.exact.grouping.kernels import F64, U8, Kernels, Order
from teflon_etnaviv.nn.layer import I32

_SKEW = 0.95
"""A zero point other than 128 must make steps at least this much finer to be worth it."""


@dataclass(frozen=True, eq=False)
class Rounded:
    """The kernels of a group with one scale and one zero point; arrays as in Kernels.

    signal, noise: float64 [channels], the sums of squares of weights and of their errors, in
    squares of the scale.
    """

    bytes_: U8
    zero: int
    scale: float
    bias: I32
    signal: F64
    noise: F64

    def moved(self, by: F64) -> Rounded:
        """Return the kernels with biases that are moved by so much, in 32 bits."""
        return replace(self, bias=_in_32_bits(self.bias + by))


def common(kernels: Kernels, channels: Order) -> tuple[float, int]:
    """Return the finest scale that holds all weights of these channels, and its zero point."""
    low, high = -float(kernels.lowest[channels].min()), float(kernels.highest[channels].max())
    even = max(high / 127, low / 128)
    skewed = (low + high) / 254.5
    if even == 0:
        return float(kernels.scales[channels].max()), 128
    if skewed > _SKEW * even:
        return even, 128
    return skewed, round(low / skewed)


def rounded(kernels: Kernels, channels: Order) -> Rounded:
    """Return the kernels of these channels with one scale; unchanged where they have one.

    The errors of each kernel's weights add up to less than half a step: an error of their sum would
    be an error of every result, as most inputs lie on one side of their zero point.
    """
    scales = kernels.scales[channels]
    if (scales == scales[0]).all():
        return kept(kernels, channels, float(scales[0]))
    scale, zero = common(kernels, channels)
    factors = scales / scale
    data, powers = _rounded(kernels, channels, factors, zero)
    bias = _bias(kernels.bias[channels], factors)
    return Rounded(data, zero, scale, bias, powers[:, 0], powers[:, 1])


def _rounded(kernels: Kernels, channels: Order, factors: F64, zero: int) -> tuple[U8, F64]:
    """Return weights times factors, and the sums of squares of these and of their errors."""
    rows = kernels.bytes_[channels]
    raw, powers = _coefs.round_rows(
        rows, factors.astype(np.float32), rows.shape, kernels.zero, zero
    )
    found = np.frombuffer(raw, np.uint8).reshape(rows.shape)
    return found, np.frombuffer(powers, np.float64).reshape(-1, 2)


def kept(kernels: Kernels, channels: Order, scale: float) -> Rounded:
    """Return the kernels of these channels with their numbers as they are, and another scale."""
    data, powers = _rounded(kernels, channels, np.ones(len(channels)), kernels.zero)
    factors = kernels.scales[channels] / scale
    signal, noise = powers[:, 0] * factors**2, powers[:, 0] * (factors - 1) ** 2
    return Rounded(data, kernels.zero, scale, kernels.bias[channels], signal, noise)


def _bias(bias: I32, factors: F64) -> I32:
    """Return biases in another scale; those that 32 bits cannot hold are far outside of 8 bits."""
    return _in_32_bits(bias * factors)


def _in_32_bits(numbers: F64) -> I32:
    found: I32 = np.clip(np.rint(numbers), -(1 << 31), (1 << 31) - 1).astype(np.int32)
    return found
