# Ref: docs/hardware/rocket.md §8.3, §8.4 step 1
"""CORE: multiply and accumulate.

Accumulators come out with the DPU's zero point compensation in them: acc + OW * Q, where Q is the
sum of the inputs of a window, equals the sum of inputs times (weight + OW). Both are exact, and
the fold needs no second pass over the windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_rocket.registers import CORE

from . import _units
from .cna import Window
from .registerfile import Fields, RegisterFile

FIELDS: Fields = {
    CORE.MISC_CFG: "QD_EN DW_EN",
    CORE.DATAOUT_SIZE_0: "DATAOUT_WIDTH DATAOUT_HEIGHT",
    CORE.DATAOUT_SIZE_1: "DATAOUT_CHANNEL",
    CORE.CLIP_TRUNCATE: "CLIP_TRUNCATE ROUND_TYPE",
    CORE.UNKNOWN_3030: "",
}

_EXACT = 1 << 24
"""Integers up to here are exact in float32, so a product of matrices whose partial sums stay
below is exact in any order of summation."""
_LARGEST = 128
"""Magnitude of an int8 input."""
_BLOCK_BYTES = 4 << 20
"""Windows gathered at a time: what caches hold, and enough rows for a matrix product."""


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

    Direct: float32 [chunk of (ty, tx, channel), kernel] each, whose products are exact.
    Depthwise: one int32 [tap, channel]. `bound` is the largest magnitude that an accumulator can
    have.
    """

    chunks: tuple[NDArray[Any], ...]
    depthwise: bool
    bound: int


def prepare(
    weights: NDArray[np.int8], compensation: int | NDArray[np.int64], depthwise: bool
) -> Kernels:
    """Fold the compensation (one, or one per output channel) into weights [ty, tx, c, k].

    Raises SimulatorFault when a sum could leave 32 bits.
    """
    height, width, channels, kernels = weights.shape
    flat = weights.reshape(height * width * channels, kernels).astype(np.int32)
    if depthwise:
        folded = flat.reshape(height * width, channels) + np.asarray(compensation, np.int32)
        bound = _LARGEST * int(np.abs(folded).sum(0, dtype=np.int64).max())
        _check_bound(bound)
        return Kernels((np.ascontiguousarray(folded, np.int32),), True, bound)
    flat += np.asarray(compensation, np.int32)
    magnitude = np.abs(flat)
    bound = _LARGEST * int(magnitude.sum(0, dtype=np.int64).max())
    _check_bound(bound)
    matrix = flat.astype(np.float32)
    cuts = _cuts(magnitude, -(-bound // _EXACT))
    chunks = tuple(matrix[a:b] for a, b in pairwise(cuts))
    return Kernels(chunks, False, bound)


def _check_bound(bound: int) -> None:
    if bound >= 1 << 31:
        raise SimulatorFault(
            f"CORE: accumulators may reach {bound}, saturation of 32 bits is not modelled"
        )


def _cuts(magnitude: NDArray[np.int32], pieces: int) -> list[int]:
    """Where to cut the rows so that every piece's products stay exact in float32."""
    rows = len(magnitude)
    while True:
        cuts = [rows * i // max(pieces, 1) for i in range(max(pieces, 1) + 1)]
        sums = np.add.reduceat(magnitude, cuts[:-1], axis=0, dtype=np.int64)
        if int(sums.max()) * _LARGEST <= _EXACT:
            return cuts
        pieces += 1


def accumulate(
    features: NDArray[np.int8], window: Window, kernels: Kernels, width: int, height: int
) -> Iterator[tuple[int, NDArray[Any]]]:
    """(first output row, accumulators [pixel, kernel]) block by block, float32 or int32.

    The array of a block is reused by the next one.
    """
    channels = features.shape[0] * features.shape[3]
    geometry = (window.kernel, window.stride, window.dilation, window.pad)
    pad = np.resize(np.array(window.pad_values, np.int8), channels)
    if kernels.depthwise:
        yield from _depthwise(features, pad, kernels, geometry, width, height)
        return
    depth = channels * window.kernel[0] * window.kernel[1]
    rows = min(max(_BLOCK_BYTES // (4 * depth * width), 1), height)
    wide = pad.astype(np.float32)
    gathered = np.empty((rows * width, depth), np.float32)
    for first in range(0, height, rows):
        block = gathered[: min(rows, height - first) * width]
        _units.gather(features, wide, block, *geometry, first, width)
        yield first, _product(block, kernels)


def _product(block: NDArray[np.float32], kernels: Kernels) -> NDArray[Any]:
    if len(kernels.chunks) == 1:
        product: NDArray[Any] = block @ kernels.chunks[0]
        return product
    total = np.zeros((len(block), kernels.chunks[0].shape[1]), np.int32)
    at = 0
    for chunk in kernels.chunks:
        total += (block[:, at : at + len(chunk)] @ chunk).astype(np.int32)
        at += len(chunk)
    return total


_Geometry = tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]


def _depthwise(
    features: NDArray[np.int8],
    pad: NDArray[np.int8],
    kernels: Kernels,
    geometry: _Geometry,
    width: int,
    height: int,
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    rows = min(max(_BLOCK_BYTES // (16 * len(pad) * width), 1), height)
    sums = np.empty((rows * width, len(pad)), np.int32)
    for first in range(0, height, rows):
        block = sums[: min(rows, height - first) * width]
        _units.depthwise(features, pad, kernels.chunks[0], block, *geometry, first, width)
        yield first, block
