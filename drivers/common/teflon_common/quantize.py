"""Real multipliers as an integer and a shift, for hardware without floating point."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Multiplier:
    """The number multiplier / 2^shift."""

    multiplier: int
    shift: int

    @property
    def real(self) -> float:
        return math.ldexp(self.multiplier, -self.shift)


def nearest_multiplier(real: float, bits: int) -> Multiplier:
    """Return the nearest multiplier of exactly `bits` bits (top bit set) for a positive number.

    The relative error is at most 2^-bits. The shift may be negative or large: the caller checks
    whether it fits the hardware.
    """
    fraction, exponent = math.frexp(real)
    multiplier = round(math.ldexp(fraction, bits))
    if multiplier >> bits:
        multiplier, exponent = multiplier >> 1, exponent + 1
    return Multiplier(multiplier, bits - exponent)
