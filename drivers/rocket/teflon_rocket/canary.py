"""Notice a device that did not write its outputs.

A job that hangs or faults ends after half a second with a signalled fence, and a job that the
kernel drops has none: user space sees a wait that succeeds, and what the buffer held before. So the
end of every output gets a random pattern before the jobs start; one that is still there afterwards
was never overwritten. (A hang of an earlier job of the same submit stays unseen when the last one
runs: the kernel log has it.)
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt

from teflon_rocket.program import Port

# Ref: docs/hardware/rocket.md §2.2 (silent failures), §4.1 (layout)

LANES = 16
PIXELS = 4
ENOUGH = 8
"""Bytes that must differ by chance before a pattern proves anything."""


class Canary:
    """A pattern in the last pixels of the first surface of an output's last image."""

    def __init__(self, port: Port, memory: npt.NDArray[np.uint8]) -> None:
        images, height, width, channels = port.shape
        pixels = min(PIXELS, height * width)
        start = port.offset + (images - 1) * port.image_pitch + (height * width - pixels) * LANES
        proves = port.layout == "surfaces" and pixels * min(channels, LANES) >= ENOUGH
        self._place = memory[start : start + pixels * LANES] if proves else memory[:0]
        self._pattern = np.frombuffer(os.urandom(self._place.size), np.uint8)

    def put(self) -> None:
        """Write the pattern."""
        self._place[:] = self._pattern

    def alive(self) -> bool:
        """Whether the pattern is still there."""
        return self._place.size > 0 and bool((self._place == self._pattern).all())
