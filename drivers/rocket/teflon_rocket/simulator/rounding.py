# Ref: docs/hardware/rocket.md §8.6
# Ref: docs/hardware/rocket_vendor.md §1 (shifts of negative values)
"""Right shifts as the converters round them."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


def round_shift(value: NDArray[np.int64], shift: int, ties_up: bool) -> NDArray[np.int64]:
    """Return value / 2^shift, the nearest integer; ties to even, or up."""
    if shift == 0:
        return value
    half = np.int64(1) << np.int64(shift - 1)
    carry = half if ties_up else half - 1 + (value >> np.int64(shift) & 1)
    return (value + carry) >> np.int64(shift)


class Shifts(Protocol):
    """How far positive and negative values are shifted; None: alike."""

    @property
    def shift(self) -> int: ...

    @property
    def negative(self) -> int | None: ...


def signed_shift(
    product: NDArray[np.int64], shifts: Shifts, negative: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Return products shifted, ties to even; `negative` says whose shift is the other one."""
    out = round_shift(product, shifts.shift, False)
    if shifts.negative is None:
        return out
    return np.where(negative, round_shift(product, shifts.negative, False), out)
