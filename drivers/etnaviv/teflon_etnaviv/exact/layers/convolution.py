"""Layers of convolutions and of depthwise convolutions that compute what the model says.

Ref: docs/hardware/etnaviv.md sections 4 and 10.3 (the B numbers)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon.ir.types import Padding
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers.activation import clamps_below
from teflon_etnaviv.exact.layers.weights import output_scale, unsigned_weights
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.nn.weights import (
    bias_of,
    channels_first,
    dense,
    grown,
    on_blocks,
    planes_first,
    with_weights,
)
from teflon_etnaviv.rounding import cdiv
from teflon_etnaviv.tensors import Shape, Tensor

Convolution = Conv2D | DepthwiseConv2D


def uses_blocks(op: Convolution) -> bool:
    """Whether a stride-2 convolution runs on 2x2 blocks of pixels brought into channels.

    Depthwise and 1x1 ones are computed at stride 1 instead, and three of four results dropped.
    """
    return op.stride == (2, 2) and isinstance(op, Conv2D) and op.weights.shape[1:3] != (1, 1)


def blocks_shape(op: Convolution) -> Shape:
    """Return the shape of the 2x2 blocks that the outputs of a convolution look at."""
    _, rows, columns, _ = op.weights.shape
    _, out_height, out_width, _ = op.output.shape
    return (
        1, out_height + cdiv(rows, 2) - 1, out_width + cdiv(columns, 2) - 1, 4 * op.input.shape[3]
    )  # fmt: skip


def convolution(op: Convolution, chip: Chip) -> Layer:
    """Return the layer of a convolution that the rules accept."""
    source, target = Tensor.of(op.input), Tensor.of(op.output)
    _, rows, columns, _ = op.weights.shape
    channels = target.shape[3]
    strided = op.stride == (2, 2)
    plain = Layer(
        height=source.shape[1],
        width=source.shape[2],
        in_channels=source.shape[3],
        planes=source.shape[3],
        out_height=target.shape[1],
        out_width=target.shape[2],
        out_channels=channels,
        kernel_height=rows,
        kernel_width=columns,
        in_zero=source.zero_point,
        out_zero=target.zero_point,
        scale=output_scale(op.input.type.scale, op.weights.type.scale, op.output.type.scale),
        weights=unsigned_weights(op.weights),
        bias=bias_of(op.bias, channels),
        stride=op.stride[0],
        pointwise=(rows, columns) == (1, 1),
        relu=clamps_below(op),
        first_pixel=strided and not uses_blocks(op),
        title=op.title,
    )
    layer = depthwise(plain, chip) if isinstance(op, DepthwiseConv2D) else planes_first(plain)
    if uses_blocks(op):
        return _over_blocks(layer, op)
    if layer.taps == 1 and layer.in_channels == 1 and not layer.depthwise:
        layer = grown(layer)
    return _padded(layer, op.padding)


def _padded(layer: Layer, padding: Padding) -> Layer:
    """Put the first tap where the padding says (B5, B17)."""
    return replace(layer, offset=-padding.left, offset_y=-padding.top)


def _over_blocks(layer: Layer, op: Convolution) -> Layer:
    """Turn a stride-2 layer into a stride-1 layer over 2x2 blocks; the blocks hold the padding."""
    _, height, width, _ = blocks_shape(op)
    found = replace(on_blocks(layer), height=height, width=width)
    return replace(found, pointwise=(found.kernel_height, found.kernel_width) == (1, 1))


def depthwise(layer: Layer, chip: Chip) -> Layer:
    """Return a depthwise layer: V8 has a mode for it, V7 computes it as a full convolution.

    V8 does the same where a channel has several kernels, or where there are fewer channels than
    cores (B4: the order of the streams is not known there).
    """
    arranged = channels_first(layer)
    if layer.in_channels == 1:
        return arranged
    if layer.out_channels != layer.in_channels:
        return _spread(arranged)
    if chip.depthwise_mode and layer.out_channels >= chip.nn_core_count:
        return replace(arranged, depthwise=True, in_channels=1)
    diagonal = replace(arranged, weights=replace(arranged.weights, diagonal=True))
    return diagonal if not chip.huffman else with_weights(arranged, dense(diagonal))


def _spread(layer: Layer) -> Layer:
    """Return a depthwise layer with several kernels for each channel as a full convolution."""
    channels, taps = layer.out_channels, layer.taps
    data = np.full((channels, layer.in_channels, taps), layer.weights.fill, np.uint8)
    numbers, times = np.arange(channels), channels // layer.in_channels
    data[numbers, numbers // times] = layer.weights.data.reshape(channels, taps)
    return with_weights(layer, data)
