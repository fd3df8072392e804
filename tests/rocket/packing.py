"""Feature maps and weights as the RK3588 reads them, byte by byte, without the compiler."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def cdiv(a: int, b: int) -> int:
    return -(-a // b)


def surfaces(x: IntArray) -> bytes:
    """[row, column, channel] as surfaces of 16 channels."""
    rows, columns, channels = x.shape
    return (
        x.reshape(rows, columns, channels // 16, 16).transpose(2, 0, 1, 3).astype(np.int8).tobytes()
    )


FILL = 99
"""In weight rows, behind the last channel."""


def row_bytes(channels: int, depthwise: bool) -> int:
    """Bytes of a weight row of so many channels of one group."""
    if not depthwise or channels <= 16:
        return cdiv(channels, 16) * 16
    return 32 if channels <= 32 else 64


def pack_weights(w: IntArray, depthwise: bool) -> bytes:
    """[kernel, row, column, channel] in the order of docs/hardware/rocket.md 4.3, byte by byte."""
    kernels, height, width, channels = w.shape
    row = 64 if depthwise else 32
    out = bytearray()
    for first in range(0, kernels, 32):
        for group in range(0, channels, row):
            for ty in range(height):
                for tx in range(width):
                    for k in range(first, min(first + 32, kernels)):
                        part = w[k, ty, tx, group : group + row]
                        out += part.astype(np.int8).tobytes()
                        out += bytes([FILL]) * (row_bytes(len(part), depthwise) - len(part))
    return bytes(out)
