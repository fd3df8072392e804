# Ref: docs/hardware/rocket.md §8.3, §8.4 step 1
"""CORE: multiply and accumulate.

Accumulators come out with the DPU's zero point compensation in them: acc + OW * Q, where Q is the
sum of the inputs of a window, equals the sum of inputs times (weight + OW). Both are exact, and
the fold needs no second pass over the windows.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_rocket.registers import CORE

from . import _units
from .cube import ATOM, Window
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

    Direct: int16 panels [16 kernels, pair of (ty, tx, channel), (kernel, value of the pair)], or,
    where 16 bits do not hold them, int64 [(ty, tx, channel), kernel]. Depthwise: int32 [surface,
    tap, 16]. `bound` is the largest magnitude that an accumulator can have.
    """

    matrix: NDArray[Any]
    depthwise: bool
    bound: int

    @property
    def wide(self) -> bool:
        """Whether only 64-bit integers hold the weights."""
        return self.matrix.dtype == np.int64


def prepare(weights: NDArray[np.int8], compensation: NDArray[np.int64], depthwise: bool) -> Kernels:
    """Fold the compensation (one, or one per output channel) into weights [ty, tx, c, k].

    Raises SimulatorFault when a sum could leave 32 bits.
    """
    height, width, channels, kernels = weights.shape
    if depthwise:
        folded = weights.reshape(height * width, channels) + compensation.astype(np.int32)
        by_surface = folded.reshape(height * width, -1, ATOM).transpose(1, 0, 2)
        return Kernels(np.ascontiguousarray(by_surface, np.int32), True, _bound(folded))
    narrow = int(np.abs(compensation).max()) < (1 << 15) - 128
    kind = np.int16 if narrow else np.int64
    matrix = np.zeros((height * width * channels, -(-kernels // ATOM) * ATOM), kind)
    matrix[:, :kernels] = weights.reshape(-1, kernels)
    matrix[:, :kernels] += compensation.astype(kind)
    bound = _bound(matrix)
    if narrow:
        pairs = matrix.reshape(len(matrix) // 2, 2, -1, ATOM).transpose(2, 0, 3, 1)
        matrix = np.ascontiguousarray(pairs).reshape(*pairs.shape[:2], 2 * ATOM)
    return Kernels(matrix, False, bound)


def _bound(folded: NDArray[Any]) -> int:
    """Return the largest magnitude of the sums over axis 0."""
    bound = _LARGEST * int(np.abs(folded).sum(0, dtype=np.int64).max())
    if bound >= 1 << 31:
        raise SimulatorFault(
            f"CORE: accumulators may reach {bound}, saturation of 32 bits is not modelled"
        )
    return bound


@functools.lru_cache(maxsize=256)
def _pad(values: tuple[int, int], surfaces: int) -> NDArray[np.int16]:
    """Return the pad byte of every channel."""
    return np.tile(np.array(values, np.int16), surfaces * ATOM // 2)


@dataclass(frozen=True)
class Accumulator:
    """Computes output rows of one task; threads may compute different rows at the same time."""

    features: NDArray[np.int8]
    window: Window
    kernels: Kernels
    width: int
    height: int

    def process(self, rows: range, post: _units.Post, out: NDArray[np.int8]) -> None:
        """Compute rows and let the DPU write them to `out`, the output; not for wide kernels."""
        self._run(rows, post, out)

    def sums(self, rows: range) -> NDArray[np.int32]:
        """Return the accumulators [pixel, kernel] of some rows."""
        if self.kernels.wide:
            return self._wide_sums(rows)
        out = np.empty((len(rows) * self.width, len(self.kernels.matrix) * ATOM), np.int32)
        self._run(rows, None, out)
        return out

    def _run(self, rows: range, post: _units.Post | None, out: NDArray[Any]) -> None:
        window = self.window
        loop = _units.depthwise if self.kernels.depthwise else _units.convolve
        loop(
            self.features,
            self._pad(),
            self.kernels.matrix,
            window.kernel,
            window.stride,
            window.dilation,
            window.pad,
            (rows.start, len(rows), self.width),
            post,
            out,
        )

    def _pad(self) -> NDArray[np.int16]:
        return _pad(self.window.pad_values, len(self.features))

    def _wide_sums(self, rows: range) -> NDArray[np.int32]:
        """Return the same, tap by tap, for weights that need more than 16 bits."""
        window = self.window
        y = np.arange(rows.start, rows.stop)[:, None] * window.stride[0] - window.pad[0]
        x = np.arange(self.width) * window.stride[1] - window.pad[1]
        image = self.features.transpose(1, 2, 0, 3)
        depth = image.shape[2] * ATOM
        total = np.zeros((len(rows) * self.width, self.kernels.matrix.shape[1]), np.int64)
        for tap in range(window.kernel[0] * window.kernel[1]):
            row = y + tap // window.kernel[1] * window.dilation[0]
            column = x + tap % window.kernel[1] * window.dilation[1]
            inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
            taken = image[row % image.shape[0], column % image.shape[1]].reshape(
                *inside.shape, depth
            )
            values = np.where(inside[..., None], taken, self._pad()).astype(np.int64)
            weights = self.kernels.matrix[tap * depth : (tap + 1) * depth]
            total += values.reshape(-1, depth) @ weights
        return total.astype(np.int32)
