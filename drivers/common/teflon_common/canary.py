"""Detecting that a device did not write its outputs.

The kernel also signals the fence of a job that hangs or faults. User space then sees a wait that
succeeds, and the old content of the buffer. So a random pattern is written to the end of each
output before the jobs start; if it is still there afterwards, the device did not write the output.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

ENOUGH = 8
"""Bytes of a pattern that no output has by chance; a shorter pattern proves nothing."""


class Canary:
    """A pattern in the last bytes of an output."""

    def __init__(self, place: npt.NDArray[np.uint8]) -> None:
        """place: mapped bytes that each inference overwrites; less than ENOUGH are ignored."""
        self._place = place if place.size >= ENOUGH else place[:0]
        self._pattern = np.frombuffer(os.urandom(self._place.size), np.uint8)

    def put(self) -> None:
        """Write the pattern."""
        self._place[:] = self._pattern

    def alive(self) -> bool:
        """Whether the pattern is still there."""
        return self._place.size > 0 and bool((self._place == self._pattern).all())
