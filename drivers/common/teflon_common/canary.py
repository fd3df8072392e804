"""Notice a device that did not write its outputs.

A job that hangs or faults ends with a signalled fence like any other: user space sees a wait that
succeeds, and what the buffer held before. So the end of every output gets a random pattern before
the jobs start; one that is still there afterwards was never overwritten.
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

ENOUGH = 8
"""Bytes that must differ by chance before a pattern proves anything."""


class Canary:
    """A pattern in the last bytes of an output."""

    def __init__(self, place: npt.NDArray[np.uint8]) -> None:
        """place: mapped bytes that every inference overwrites; too few of them prove nothing."""
        self._place = place if place.size >= ENOUGH else place[:0]
        self._pattern = np.frombuffer(os.urandom(self._place.size), np.uint8)

    def put(self) -> None:
        """Write the pattern."""
        self._place[:] = self._pattern

    def alive(self) -> bool:
        """Whether the pattern is still there."""
        return self._place.size > 0 and bool((self._place == self._pattern).all())
