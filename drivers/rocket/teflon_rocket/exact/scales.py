# Ref: docs/hardware/rocket.md §4.4, §4.6, §7.2, §7.4, §8.4 (stages), §10.2
"""Quantisation as register values, for strategy `exact`.

Zero points are in uint8's domain throughout: an int8 value v is the uint8 value v + 128.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from teflon.errors import LimitExceeded
from teflon.ir.types import Array, DType, TensorType
from teflon_common.quantize import Multiplier, nearest_multiplier
from teflon_rocket.operations.convolution import Coefs
from teflon_rocket.operations.numbers import NO_CLAMPS, Clamps

SCALE_BITS = 15
"""OUT_CVT_SCALE and EW_CVT_SCALE: the top bit of the 16 may be a sign, so it stays 0."""
MOST_SHIFT = 60
"""Of BS, BN and OUT_CVT: larger ones are not modelled."""
_EW_SHIFT = 63
_INT32 = 2**31


class Affine(NamedTuple):
    """real = scale * (q - zero), q and zero in uint8's domain."""

    scale: float
    zero: int

    @classmethod
    def of(cls, tensor: TensorType) -> Affine:
        return cls(tensor.scale, tensor.zero_point + signed_offset(tensor))


def signed_offset(tensor: TensorType) -> int:
    """Return what a stored number of this type lacks to be in uint8's domain."""
    return 128 if tensor.dtype is DType.INT8 else 0


class Bounds(NamedTuple):
    """Smallest and largest value that an accumulator can reach."""

    low: int
    high: int


def output_multiplier(real: float, where: str) -> Multiplier:
    """Return OUT_CVT's multiplier and shift. Raises LimitExceeded for a factor out of reach."""
    found = nearest_multiplier(real, SCALE_BITS)
    if found.shift < 0:
        raise LimitExceeded(
            f"output factor is {real:g}, must be below {2**SCALE_BITS}"
            " (input scale times weight scale over output scale)",
            where=where,
        )
    if found.shift > MOST_SHIFT:
        return Multiplier(max(found.multiplier >> (found.shift - MOST_SHIFT), 1), MOST_SHIFT)
    return found


def operand_multiplier(real: float) -> Multiplier | None:
    """Return EW's multiplier and shift, or None where the factor is out of reach."""
    found = nearest_multiplier(real, SCALE_BITS)
    return found if 0 <= found.shift <= _EW_SHIFT else None


def pad_word(zero: int, used: bool = True) -> int:
    """Return PAD_CON1: the stored zero point twice, sign extended; once where nothing is padded
    (it does not matter then, and Mesa writes it so).
    """
    if not used:
        return (zero - 128) & 0xFFFFFFFF
    byte = (zero - 128) & 0xFF
    return (byte * 0x0101) | (0xFFFF0000 if byte & 0x80 else 0)


def bounds(coefs: Coefs) -> Bounds:
    """Return what sums and bias can reach for any input."""
    low, high = channel_bounds(coefs)
    return Bounds(int(low.min()), int(high.max()))


def channel_bounds(coefs: Coefs) -> tuple[Array, Array]:
    """Return the smallest and the largest value of each channel's sum and bias for any input."""
    distance = coefs.distances
    axes = (0, 1) if coefs.depthwise else (1, 2)
    above = np.maximum(distance, 0).sum(axis=axes, dtype=np.int64)
    below = np.minimum(distance, 0).sum(axis=axes, dtype=np.int64)
    low, high = -max(coefs.input_zero, 0), 255 - min(coefs.input_zero, 255)
    return above * low + below * high + coefs.bias, above * high + below * low + coefs.bias


def threshold_low(factor: Multiplier, steps: int) -> int:
    """Return the smallest accumulator that becomes at least `steps` (ties to even or up alike)."""
    return ((2 * steps - 1) << factor.shift) // (2 * factor.multiplier) + 1


def threshold_high(factor: Multiplier, steps: int) -> int:
    """Return the largest accumulator that becomes at most `steps`."""
    return -((-(2 * steps + 1) << factor.shift) // (2 * factor.multiplier)) - 1


class Window(NamedTuple):
    """The range of accumulator values that a clamp leaves; None where there is no limit."""

    low: int | None = None
    high: int | None = None

    def needed(self, reach: Bounds) -> Window:
        """Return this window without limits that nothing can reach."""
        low = self.low if self.low is not None and self.low > reach.low else None
        high = self.high if self.high is not None and self.high < reach.high else None
        return Window(low, high)


def output_window(factor: Multiplier, zero: int, clamp: tuple[int, int], where: str) -> Window:
    """Return the accumulator window of a clamp of the output (uint8's domain).

    The lower limit is exactly 0 where the clamp is at the zero point (ReLU). Raises LimitExceeded
    where a limit lies between two accumulator steps that are more than one output step apart.
    """
    low, high = clamp
    if low == zero and (low > 0 or high < 255):
        least: int | None = 0
    else:
        least = None if low <= 0 else threshold_low(factor, low - zero)
    window = Window(
        least,
        None if high >= 255 else threshold_high(factor, high - zero),
    )
    if factor.real > 1 and (window.low or window.high is not None):
        raise LimitExceeded(
            f"output factor is {factor.real:g}, must be at most 1 for a clamp other than at the"
            " zero point",
            where=where,
        )
    return window


def early_clamps(window: Window, reach: Bounds, where: str) -> Clamps:
    """Return BS and BN programming for a window: origin moved to its lower limit, ReLU, ReLUX,
    origin moved back. Raises LimitExceeded where 32 bits do not suffice.
    """
    wanted = window.needed(reach)
    if wanted.low is None and wanted.high is None:
        return NO_CLAMPS
    # An upper limit comes with a ReLU: where only it is wanted, the ReLU is put out of reach.
    low = wanted.low if wanted.low is not None else min(reach.low, 0)
    _check_range(where, reach.low - low, reach.high - low)
    ceiling = None if wanted.high is None else wanted.high - low
    return Clamps(origin=low, relu=True, ceiling=ceiling, shift=low)


def _check_range(where: str, *values: int) -> None:
    beyond = [v for v in values if not -_INT32 <= v < _INT32]
    if beyond:
        raise LimitExceeded(f"accumulator reaches {beyond[0]}, must fit 32 bits", where=where)
