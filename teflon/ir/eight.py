"""8-bit convolutions in one pass of C: sums in int32 and their requantisation, block by block.

They compute what `windows` and `Requantizer` compute, bit for bit, for the element types that most
models have. Sums are taken modulo 2**32, as TFLite's kernels take them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from teflon import workers
from teflon.ir import _eight
from teflon.ir.quantized import INT32_MIN, Multiplier
from teflon.ir.types import Array, DType, Padding, TensorType

_LANES = 16  # outputs that are computed together; windows.h
_MOST = 1 << 24  # of any size; windows.h
_WORTH_THREADS = 500_000  # multiply-accumulates from which on rows are shared between threads

if TYPE_CHECKING:
    from teflon.ir._eight import Finishing as Finishing


@dataclass(frozen=True)
class Kernel:
    """Packed weights, already less their zero point, and the loop that takes them.

    Convolutions: int16 panels [16 outputs, pair of (ky, kx, channel), (output, value of the pair)],
    channels padded to an even number. Depthwise: int32 [16 channels, (ky, kx), channel].
    """

    weights: Array
    size: tuple[int, int]
    outputs: int
    loop: Callable[..., None]


def pack(weights: Array) -> Kernel:
    """Pack OHWI weights of at most 16 bits."""
    outputs, height, width, depth = weights.shape
    panels, even = -(-outputs // _LANES), depth + depth % 2
    padded = np.zeros((panels * _LANES, height * width, even), np.int16)
    padded[:outputs, :, :depth] = weights.reshape(outputs, height * width, depth)
    pairs = padded.reshape(panels, _LANES, -1, 2).transpose(0, 2, 1, 3)
    packed = np.ascontiguousarray(pairs).reshape(panels, -1, 2 * _LANES)
    return Kernel(packed, (height, width), outputs, _eight.convolve)


def pack_depthwise(weights: Array) -> Kernel:
    """Pack weights [1, height, width, C]."""
    _, height, width, channels = weights.shape
    panels = -(-channels // _LANES)
    padded = np.zeros((height * width, panels * _LANES), np.int32)
    padded[:, :channels] = weights.reshape(height * width, channels)
    packed = np.ascontiguousarray(padded.reshape(height * width, panels, -1).transpose(1, 0, 2))
    return Kernel(packed, (height, width), channels, _eight.depthwise)


def covers(types: tuple[TensorType, TensorType, TensorType], sizes: tuple[int, ...]) -> bool:
    """Return whether (image, weights, output) and a window of these sizes have a loop here."""
    x, weights, output = types
    if x.dtype not in (DType.UINT8, DType.INT8) or output.dtype is not x.dtype:
        return False
    zeros = all(t.dtype.range[0] <= t.zero_point <= t.dtype.range[1] for t in types)
    return zeros and max(*x.shape, *weights.shape, *output.shape, *sizes) <= _MOST


def finishing(
    multiplier: Multiplier, bias: Array | None, outputs: int, zero: int, clamp: tuple[int, int]
) -> Finishing | None:
    """Return the last step of the loop; None for factors or limits that it cannot handle."""
    factor, shift = multiplier.quantized, multiplier.shift
    if np.any(factor == INT32_MIN) or np.any(np.abs(shift) > 31):
        return None
    if not -128 <= clamp[0] <= clamp[1] <= 255:
        return None
    lanes = -(-outputs // _LANES) * _LANES
    values = (0 if bias is None else bias, factor, np.maximum(shift, 0), np.maximum(-shift, 0))
    spread = []
    for value in values:
        whole = np.zeros(lanes, np.int32)
        whole[:outputs] = value
        spread.append(whole)
    return spread[0], spread[1], spread[2], spread[3], zero, *clamp


def run(
    x: Array,
    zero: int,
    kernel: Kernel,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Padding,
    last: Finishing,
) -> Array:
    """Return the quantised output of an image, both NHWC and of one type.

    `zero` is the image's zero point: the value of its padding.
    """
    x = np.ascontiguousarray(x)
    height, width = padding.output((x.shape[1], x.shape[2]), kernel.size, stride, dilation)
    out = np.empty((len(x), height, width, kernel.outputs), x.dtype)
    geometry = (kernel.size, stride, dilation, (padding.top, padding.left))
    pieces = _pieces(height, height * width * kernel.weights.size)
    for image, into in zip(x, out, strict=True):

        def part(rows: range, image: Array = image, into: Array = into) -> None:
            where = (rows.start, len(rows), width)
            kernel.loop(image, zero, kernel.weights, *geometry, where, last, into)

        workers.shared(part, pieces)
    return out


def _pieces(height: int, macs: int) -> list[range]:
    return workers.rows(height, 1 if macs < _WORTH_THREADS else workers.COUNT)
