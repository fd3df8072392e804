"""A mark at the end of each output, by which a driver sees whether the device wrote it.

A job that the kernel ends after half a second, or drops, has written nothing there. (A hang of an
earlier job of the same submit stays unseen when the last one runs: the kernel log has it.)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from teflon_common import canary
from teflon_rocket.program import Port

# Ref: docs/hardware/rocket.md §2.2 (silent failures), §4.1 (layout)

LANES = 16
PIXELS = 4


class Canary(canary.Canary):
    """A pattern in the last pixels of the first surface of an output's last image."""

    def __init__(self, port: Port, memory: npt.NDArray[np.uint8]) -> None:
        images, height, width, channels = port.shape
        pixels = min(PIXELS, height * width)
        start = port.offset + (images - 1) * port.image_pitch + (height * width - pixels) * LANES
        proves = port.layout == "surfaces" and pixels * min(channels, LANES) >= canary.ENOUGH
        super().__init__(memory[start : start + pixels * LANES] if proves else memory[:0])
