# Ref: docs/hardware/rocket.md §8.3, §8.4 step 1
"""CORE: multiply and accumulate.

Accumulators come out with the DPU's zero point compensation in them: acc + OW * Q, where Q is the
sum of the inputs of a window, equals the sum of inputs times (weight + OW). Both are exact, and
the fold needs no second pass over the windows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_rocket.registers import CORE

from . import _units
from .cube import Window
from .registerfile import Fields, RegisterFile

FIELDS: Fields = {
    CORE.MISC_CFG: "QD_EN DW_EN",
    CORE.DATAOUT_SIZE_0: "DATAOUT_WIDTH DATAOUT_HEIGHT",
    CORE.DATAOUT_SIZE_1: "DATAOUT_CHANNEL",
    CORE.CLIP_TRUNCATE: "CLIP_TRUNCATE ROUND_TYPE",
    CORE.UNKNOWN_3030: "",
}

_LARGEST = 128
"""Magnitude of an int8 input."""
_BLOCK_BYTES = 1 << 20
"""Windows gathered at a time."""


@dataclass(frozen=True)
class CoreTask:
    """What the CORE does in one task."""

    width: int
    height: int
    channels: int
    depthwise: bool
    sums: bool
    """Whether the sums of the windows are there for the zero point compensation."""
    truncate: int
    ties_up: bool


def plan(registers: RegisterFile) -> CoreTask:
    """Read the CORE's registers."""
    misc, size = registers[CORE.MISC_CFG], registers[CORE.DATAOUT_SIZE_0]
    clip = registers[CORE.CLIP_TRUNCATE]
    return CoreTask(
        size.DATAOUT_WIDTH,
        size.DATAOUT_HEIGHT,
        registers[CORE.DATAOUT_SIZE_1].DATAOUT_CHANNEL,
        bool(misc.DW_EN),
        bool(misc.QD_EN),
        clip.CLIP_TRUNCATE,
        bool(clip.ROUND_TYPE),
    )


@dataclass(frozen=True)
class Kernels:
    """Weights made ready to multiply, with the compensation folded in.

    Direct: int16 [kernel, (ty, tx, channel)], kernels padded to a multiple of four (int64 where
    16 bits do not hold them). Depthwise: int32 [tap, channel]. `bound` is the largest magnitude
    that an accumulator can have.
    """

    matrix: NDArray[Any]
    depthwise: bool
    bound: int


def prepare(weights: NDArray[np.int8], compensation: NDArray[np.int64], depthwise: bool) -> Kernels:
    """Fold the compensation (one, or one per output channel) into weights [ty, tx, c, k].

    Raises SimulatorFault when a sum could leave 32 bits.
    """
    height, width, channels, kernels = weights.shape
    narrow = int(np.abs(compensation).max()) < (1 << 15) - 128
    if depthwise:
        folded = weights.reshape(height * width, channels) + compensation.astype(np.int32)
        bound = _bound(folded, 0)
        return Kernels(np.ascontiguousarray(folded, np.int32), True, bound)
    kind = np.int16 if narrow else np.int64
    matrix = np.zeros((-(-kernels // 4) * 4, height * width * channels), kind)
    matrix[:kernels] = weights.reshape(-1, kernels).T
    matrix[:kernels] += np.broadcast_to(compensation, kernels).astype(kind)[:, None]
    return Kernels(matrix, False, _bound(matrix, 1))


def _bound(folded: NDArray[Any], axis: int) -> int:
    bound = _LARGEST * int(np.abs(folded).sum(axis, dtype=np.int64).max())
    if bound >= 1 << 31:
        raise SimulatorFault(
            f"CORE: accumulators may reach {bound}, saturation of 32 bits is not modelled"
        )
    return bound


@dataclass(frozen=True)
class Accumulator:
    """Computes the accumulators of any rows of one task; rows may be asked for in parallel."""

    features: NDArray[np.int8]
    window: Window
    kernels: Kernels
    width: int
    height: int

    def blocks(self, parts: int) -> list[range]:
        """The output rows in pieces that caches hold, at least `parts` where there are rows."""
        taps = self.window.kernel[0] * self.window.kernel[1]
        channels = self.features.shape[0] * self.features.shape[3]
        depth = 2 * channels if self.kernels.depthwise else channels * taps
        most = max(_BLOCK_BYTES // (2 * depth * self.width), 1)
        rows = min(most, -(-self.height // parts))
        return [
            range(first, min(first + rows, self.height)) for first in range(0, self.height, rows)
        ]

    def sums(self, rows: range) -> NDArray[np.int32]:
        """Accumulators [pixel, kernel] of these output rows."""
        window, pixels = self.window, len(rows) * self.width
        channels = self.features.shape[0] * self.features.shape[3]
        geometry = (window.kernel, window.stride, window.dilation, window.pad)
        pad = np.empty((channels // 2, 2), np.int8 if self.kernels.depthwise else np.int16)
        pad[:] = window.pad_values
        matrix = self.kernels.matrix
        if self.kernels.depthwise:
            out = np.empty((pixels, channels), np.int32)
            where = (*geometry, rows.start, self.width)
            _units.depthwise(self.features, pad.reshape(-1), matrix, out, *where)
            return out
        gathered = np.empty((pixels, matrix.shape[1]), np.int16)
        _units.gather(self.features, pad.reshape(-1), gathered, *geometry, rows.start, self.width)
        if matrix.dtype != np.int16:
            wide: NDArray[np.int32] = (gathered.astype(np.int64) @ matrix.T).astype(np.int32)
            return wide
        out = np.empty((pixels, len(matrix)), np.int32)
        _units.product(gathered, matrix, out)
        return out
