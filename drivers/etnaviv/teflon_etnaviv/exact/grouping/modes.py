"""The values of option `perchannel`: how far the scales of a group may lie apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from teflon_etnaviv.exact.grouping.choice import Price, best
from teflon_etnaviv.exact.grouping.cutting import segments
from teflon_etnaviv.exact.grouping.kernels import F64, Kernels, Order, Weighted
from teflon_etnaviv.exact.grouping.rounding import Rounded, kept, rounded
from teflon_etnaviv.exact.layers.activation import integer_range

_SLACK = 0.05
"""Steps that are left for the rounding of multipliers: at most 2^-16 of 255 steps on each side."""


class Mode(ABC):
    """How a layer with several scales is brought onto jobs with one each."""

    name: str
    adapts: bool = True
    """Whether numbers may change that nobody sees: the errors of weights, times the expected means
    of inputs, go into biases, and powers of two from one layer into another.
    """

    @abstractmethod
    def cut(self, op: Weighted, scales: F64, price: Price) -> list[slice]:
        """Return the parts of a row of output channels that are groups, given their scales."""

    def rounded(self, kernels: Kernels, channels: Order) -> Rounded:
        """Return the kernels of a group with one scale."""
        return rounded(kernels, channels)


class Merged(Mode):
    """One job for a layer."""

    name = "merged"

    def cut(self, op: Weighted, scales: F64, price: Price) -> list[slice]:
        return [slice(0, len(scales))]


class Balanced(Mode):
    """The groups with the least sum of time and noise: `choice.py`."""

    name = "balanced"

    def cut(self, op: Weighted, scales: F64, price: Price) -> list[slice]:
        return best(price, scales)


class Exact(Mode):
    """Every result within one step: weights keep their numbers, scales of a group are all but
    equal.

    A result y counts from the zero point. With a scale that is off by the factor 1 + d, it becomes
    y (1 + d): less than one step off where |d| < 1 / |y|.
    """

    name = "exact"
    adapts = False

    def cut(self, op: Weighted, scales: F64, price: Price) -> list[slice]:
        low, high = integer_range(op)
        zero = op.output.type.zero_point
        off = (1 - _SLACK) / max(high - zero, zero - low, 1)
        return segments(scales, (1 + off) / (1 - off))

    def rounded(self, kernels: Kernels, channels: Order) -> Rounded:
        scales = kernels.scales[channels]
        low, high = float(scales.min()), float(scales.max())
        return kept(kernels, channels, 2 * low * high / (low + high))


MODES: Mapping[str, Mode] = {mode.name: mode for mode in (Balanced(), Exact(), Merged())}
"""The first one is the default."""
