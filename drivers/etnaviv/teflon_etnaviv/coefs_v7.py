"""Coefficient buffers of V7 NN cores: one zero-run coded stream for each core.

Ref: docs/hardware/etnaviv.md sections 7.1 to 7.3
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn_v7.c
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teflon.errors import EncodingError
from teflon_etnaviv import _coefs
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.layer import I32, Kind, Layer

_SPLIT_COLUMNS = 3  # a MAD takes 2 rows of 3 columns at a time


class Order(enum.IntEnum):
    """How the weights of a superblock's kernels follow one another (section 7.2)."""

    SIX = 0
    INTERLEAVED = 1
    SEQUENTIAL = 2


@dataclass(frozen=True)
class Coefficients:
    """A filled coefficient buffer: the bytes to write, the size to ask for, what SRAM must hold."""

    data: bytes
    size_bytes: int
    cache_bytes: int


def align(value: int, step: int) -> int:
    """Round up to a multiple."""
    return -(-value // step) * step


def order_of(layer: Layer) -> Order:
    """Return the order that Mesa writes a layer's weights in."""
    if layer.pointwise and layer.out_channels > 8:
        return Order.SIX
    return Order.INTERLEAVED if layer.in_channels > 1 else Order.SEQUENTIAL


def tap_order(layer: Layer, order: Order, *, exact: bool) -> npt.NDArray[np.uint16]:
    """Return the tap numbers of one plane in stream order.

    Rows go in pairs; within a pair columns 0..2 of both rows, then the rest of both. Mesa bounds
    the rest by the number of rows, and in sequential order splits only depthwise and large images;
    `exact` does what the hardware walks.
    """
    rows, columns = layer.kernel_height, layer.kernel_width
    split = columns > _SPLIT_COLUMNS
    if exact:
        split = split and not layer.is_one_window
    elif order is Order.SEQUENTIAL:
        split = split and (layer.depthwise or layer.height > 64)
    end = columns if exact else rows
    parts = [range(_SPLIT_COLUMNS), range(_SPLIT_COLUMNS, end)] if split else [range(columns)]
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
    if layer.kind is Kind.ADDITION:
        return np.array([layer.addend], np.uint32)
    return (np.arange(kernels, dtype=np.int64) * layer.plane_bytes).astype(np.uint32)


def _mesa_width(layer: Layer, chip: Chip, costs: list[tuple[int, ...]]) -> list[int]:
    """Return the run width that Mesa's search ends at: from the widest down, to the first minimum.

    The table's size is in all candidates alike, so it is left out.
    """
    cores = len(costs)
    if layer.kind is Kind.ADDITION or layer.pointwise:
        return [0] * cores
    chosen, best = 0, 1 << 62
    for width in range(chip.nn_zrl_bits, -1, -1):
        total = sum(align(row[width], 32) for row in costs)
        if total > best:
            break
        chosen, best = width, total
    return [chosen] * cores


def _best_width(chip: Chip, costs: list[tuple[int, ...]]) -> list[int]:
    """Return each core's smallest width among those of the fewest bits."""
    widths = range(chip.nn_zrl_bits + 1)
    return [min(widths, key=lambda width: (row[width], width)) for row in costs]


def encode(layer: Layer, chip: Chip, superblocks: int, *, exact: bool) -> Coefficients:
    """Return the coefficient buffer of a layer.

    With `exact` the smallest streams that the format expresses and the hardware's own order;
    without, what Mesa writes (phantom kernels filled with zero weights, where Mesa's are not
    defined). Raises EncodingError for more kernels per core than the stream can count.
    """
    cores = min(layer.out_channels, chip.nn_core_count)
    per_core = -(-layer.out_channels // cores)
    if per_core > 0xFFFF:
        raise EncodingError(f"{layer.title}: {per_core} kernels per core, must be at most 65535")
    order = order_of(layer)
    weights = layer.weights
    shape = (
        layer.out_channels, layer.in_channels, layer.taps, cores, per_core, superblocks,
        weights.zero, weights.fill, int(order), int(weights.diagonal),
    )  # fmt: skip
    kernels = cores * per_core
    data = np.ascontiguousarray(weights.data)
    bias, trailers = corrected_bias(layer, kernels), _trailers(layer, kernels)
    taps = tap_order(layer, order, exact=exact)
    costs = _coefs.v7_costs(data, bias, trailers, taps, shape)
    widths = _best_width(chip, costs) if exact else _mesa_width(layer, chip, costs)
    streams = [
        _coefs.v7_stream(data, bias, trailers, taps, shape, core, width, costs[core][width])
        for core, width in enumerate(widths)
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
