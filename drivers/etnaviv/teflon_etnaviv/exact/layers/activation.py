"""Activations: the range that they leave of an output, in the output's numbers."""

from __future__ import annotations

import math
from typing import Protocol

from teflon.ir.graph import Value
from teflon.ir.types import Activation
from teflon_etnaviv.rounding import c_round

_BOUNDS = {
    Activation.RELU: (0.0, math.inf),
    Activation.RELU6: (0.0, 6.0),
    Activation.RELU_N1_TO_1: (-1.0, 1.0),
}


class Activated(Protocol):
    """An operation that ends with an activation, or with the clamp that lowering made of it."""

    @property
    def output(self) -> Value: ...
    @property
    def activation(self) -> Activation: ...
    @property
    def clamp(self) -> tuple[int, int] | None: ...


def integer_range(op: Activated) -> tuple[int, int]:
    """Return the smallest and largest output value that clamp or activation leave."""
    kind = op.output.type
    low, high = kind.dtype.range
    if op.clamp is not None:
        return max(low, op.clamp[0]), min(high, op.clamp[1])
    bounds = _BOUNDS.get(op.activation)
    if bounds is None:
        return low, high
    first = max(low, kind.zero_point + c_round(bounds[0] / kind.scale))
    if math.isinf(bounds[1]):
        return first, high
    return first, min(high, kind.zero_point + c_round(bounds[1] / kind.scale))


def clamps_below(op: Activated) -> bool:
    """Whether the NN cores cut off small output values: at the zero point."""
    low, _ = integer_range(op)
    kind = op.output.type
    return low > kind.dtype.range[0] and low >= kind.zero_point


def is_plain(op: Activated) -> bool:
    """Whether the NN cores' own clamps are all that an operation needs: at the ends of the type's
    range, below also at the zero point.
    """
    low, high = integer_range(op)
    kind = op.output.type
    least, most = kind.dtype.range
    return high >= most and (low <= least or low == kind.zero_point)
