"""Coefficient buffers of V7 NN cores: one zero-run coded stream for each core.

Ref: docs/hardware/etnaviv.md sections 7.1 to 7.3
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn_v7.c
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from teflon.errors import EncodingError
from teflon_etnaviv import _coefs
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn.coding import Coefficients, LayerCoding, Order
from teflon_etnaviv.nn.layer import I32, Layer
from teflon_etnaviv.rounding import align

_KERNELS_MAX = 0xFFFF
"""Of one core: a stream counts them with 16 bits. Ref: docs/hardware/etnaviv.md section 7.1"""


def order_of(layer: Layer) -> Order:
    """Return the order of a layer's weights."""
    if layer.pointwise and layer.out_channels > 8:
        return Order.SIX
    return Order.INTERLEAVED if layer.in_channels > 1 else Order.SEQUENTIAL


def tap_order(layer: Layer, parts: Sequence[range]) -> npt.NDArray[np.uint16]:
    """Return the tap numbers of one plane in stream order.

    Rows go in pairs; within a pair come both rows' columns of the first part, then of the next.
    """
    rows, columns = layer.kernel_height, layer.kernel_width
    taps = [
        row * columns + column
        for pair in range(0, rows, 2)
        for part in parts
        for row in range(pair, min(pair + 2, rows))
        for column in part
    ]
    return np.minimum(np.array(taps, np.uint16), rows * columns - 1).astype(np.uint16)


def corrected_bias(layer: Layer, kernels: int) -> I32:
    """Return bias - sum(w - zero) * in_zero for each kernel, 0 for phantom ones; int32 wraps."""
    weights = layer.weights
    per_kernel = weights.data.reshape(layer.out_channels, -1)
    total = per_kernel.sum(axis=1, dtype=np.int64) - per_kernel.shape[1] * weights.zero
    if weights.diagonal:
        total += (layer.in_channels - 1) * layer.taps * (weights.fill - weights.zero)
    bias = np.zeros(kernels, np.int64)
    bias[: layer.out_channels] = layer.bias.astype(np.int64) - total * layer.in_zero
    wrapped: I32 = bias.astype(np.uint32).view(np.int32)
    return wrapped


def _trailers(layer: Layer, kernels: int) -> npt.NDArray[np.uint32]:
    """Return the word behind each kernel: its output plane's offset, for an addition the taps of
    the second plane.
    """
    if layer.addend is not None:
        return np.array([layer.addend], np.uint32)
    return (np.arange(kernels, dtype=np.int64) * layer.plane_bytes).astype(np.uint32)


def encode(layer: Layer, chip: Chip, superblocks: int, coding: LayerCoding) -> Coefficients:
    """Return the coefficient buffer of a layer.

    Where the kernels do not fill the cores, the streams end with kernels of zero weights (with Mesa
    their content is undefined). Raises EncodingError for more kernels per core than the stream can
    count.
    """
    cores = min(layer.out_channels, chip.nn_core_count)
    per_core = -(-layer.out_channels // cores)
    if per_core > _KERNELS_MAX:
        raise EncodingError(
            f"{per_core} kernels per core, must be at most {_KERNELS_MAX}", where=layer.title
        )
    order = order_of(layer)
    weights = layer.weights
    shape = (
        layer.out_channels, layer.in_channels, layer.taps, cores, per_core, superblocks,
        weights.zero, weights.fill, int(order), int(weights.diagonal),
    )  # fmt: skip
    kernels = cores * per_core
    data = np.ascontiguousarray(weights.data)
    bias, trailers = corrected_bias(layer, kernels), _trailers(layer, kernels)
    taps = tap_order(layer, coding.column_parts(layer, order))
    costs = _coefs.v7_costs(data, bias, trailers, taps, shape)
    streams = [
        _coefs.v7_stream(data, bias, trailers, taps, shape, core, width, costs[core][width])
        for core, width in enumerate(coding.run_widths(layer, chip, costs))
    ]
    return _container(layer, chip, streams, per_core)


def _container(layer: Layer, chip: Chip, streams: list[bytes], per_core: int) -> Coefficients:
    head = align(4 * chip.nn_core_count, 64)
    sizes = np.zeros(head // 4, np.uint32)
    sizes[: len(streams)] = [len(stream) for stream in streams]
    worst = len(streams) * align(3 + (layer.kernel_weights + 8) * per_core, 64)
    data = sizes.tobytes() + b"".join(streams)
    return Coefficients(
        data=data,
        size_bytes=max(head + worst, len(data)),
        cache_bytes=max(len(stream) for stream in streams) * len(streams),
    )
