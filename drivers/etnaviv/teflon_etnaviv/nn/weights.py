"""Weights and biases of a layer as arrays, brought into the orders that the NN cores need.

Ref: docs/hardware/etnaviv.md section 4.2
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from teflon.ir.graph import Value
from teflon_etnaviv.nn.layer import I32, U8, Layer
from teflon_etnaviv.rounding import cdiv


def raw_bytes(value: Value) -> U8:
    """Return a constant's bytes as they lie in the file."""
    assert value.data is not None, "only called for constants"
    return np.ascontiguousarray(value.data).reshape(-1).view(np.uint8)


def bias_of(value: Value | None, channels: int) -> I32:
    """Return a layer's biases, zeros where it has none."""
    if value is None or value.data is None:
        return np.zeros(channels, np.int32)
    return value.data.reshape(-1).astype(np.int32)


def planes_first(layer: Layer) -> Layer:
    """Bring the weights of a convolution from [OC, taps, IC] to [OC, IC, taps]."""
    kernels = layer.weights.data.reshape(layer.out_channels, layer.taps, layer.in_channels)
    return with_weights(layer, kernels.transpose(0, 2, 1))


def channels_first(layer: Layer) -> Layer:
    """Bring the weights of a depthwise convolution from [taps, OC] to [OC, taps]."""
    return with_weights(layer, layer.weights.data.reshape(layer.taps, layer.out_channels).T)


def with_weights(layer: Layer, data: U8) -> Layer:
    """Return a layer with these weights, in their order."""
    flat = np.ascontiguousarray(data).reshape(-1)
    return replace(layer, weights=replace(layer.weights, data=flat))


def grown(layer: Layer) -> Layer:
    """Make 1x1 kernels of one channel 2x2, as Mesa does: the new taps weigh nothing."""
    data = np.full((layer.out_channels, 4), layer.weights.fill, np.uint8)
    data[:, 0] = layer.weights.data
    larger = replace(layer, pointwise=False, kernel_height=2, kernel_width=2)
    return with_weights(larger, data)


def dense(layer: Layer) -> U8:
    """Return weights as [OC, IC, rows, columns], diagonal ones expanded."""
    shape = (layer.out_channels, layer.in_channels, layer.kernel_height, layer.kernel_width)
    if not layer.weights.diagonal:
        return layer.weights.data.reshape(shape)
    found = np.full(shape, layer.weights.fill, np.uint8)
    channels = np.arange(layer.out_channels)
    found[channels, channels] = layer.weights.data.reshape(-1, *shape[2:])
    return found


def on_blocks(layer: Layer) -> Layer:
    """Turn the kernels of a stride-2 layer into kernels over 2x2 blocks of pixels.

    A block's four pixels are four channels, row by row; sizes of the input stay as they are.
    """
    whole = dense(layer)
    kernels, channels, rows, columns = whole.shape
    half = (cdiv(rows, 2), cdiv(columns, 2))
    data = np.full((kernels, channels, 4, *half), layer.weights.fill, np.uint8)
    for part in range(4):
        piece = whole[:, :, part // 2 :: 2, part % 2 :: 2]
        data[:, :, part, : piece.shape[2], : piece.shape[3]] = piece
    return replace(
        layer,
        in_channels=4 * channels,
        planes=4 * channels,
        kernel_height=half[0],
        kernel_width=half[1],
        weights=replace(layer.weights, data=data.reshape(-1), diagonal=False),
    )


def _largest_divisor(n: int, limit: int) -> int:
    return next(d for d in range(min(n, limit), 0, -1) if n % d == 0)


def folded(inputs: int, limit: int) -> tuple[int, int, int]:
    """Return (x, y, planes) as which the inputs of a fully connected layer are seen.

    x and y are at most `limit`, the largest kernel.
    """
    x = _largest_divisor(inputs, limit)
    y = _largest_divisor(inputs // x, limit)
    return x, y, inputs // x // y
