# Ref: docs/hardware/rocket.md §8.6
"""Right shifts as the converters round them."""

import numpy as np
from numpy.typing import NDArray


def round_shift(value: NDArray[np.int64], shift: int, ties_up: bool) -> NDArray[np.int64]:
    """Return value / 2^shift, the nearest integer; ties to even, or up."""
    if shift == 0:
        return value
    half = np.int64(1) << np.int64(shift - 1)
    carry = half if ties_up else half - 1 + (value >> np.int64(shift) & 1)
    return (value + carry) >> np.int64(shift)
