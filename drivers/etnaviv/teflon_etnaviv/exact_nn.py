"""From graph operations to NN layers that compute what the model says.

Ref: docs/hardware/etnaviv.md sections 4 and 10.3 (the B numbers)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, FullyConnected, Sub
from teflon.ir.types import Activation, DType, Padding
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.layer import U8, Kind, Layer, Weights
from teflon_etnaviv.lower_nn import bias_of, c_round, dense_weights, raw_bytes
from teflon_etnaviv.nn import fc_factors
from teflon_etnaviv.operations import Tensor
from teflon_etnaviv.tiling import cdiv

Convolution = Conv2D | DepthwiseConv2D
SIZE_MAX = 8191
"""Largest x and y of an image: 13 bits."""


def integer_range(op: Any) -> tuple[int, int]:
    """Return the smallest and largest output value that clamp or activation leave."""
    kind = op.output.type
    low, high = kind.dtype.range
    if op.clamp is not None:
        return max(low, op.clamp[0]), min(high, op.clamp[1])
    bounds = {
        Activation.RELU: (0.0, math.inf),
        Activation.RELU6: (0.0, 6.0),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
    }.get(op.activation)
    if bounds is None:
        return low, high
    first = max(low, kind.zero_point + c_round(bounds[0] / kind.scale))
    if math.isinf(bounds[1]):
        return first, high
    return first, min(high, kind.zero_point + c_round(bounds[1] / kind.scale))


def _clamps(op: Any) -> bool:
    lowest: int = op.output.type.dtype.range[0]
    return integer_range(op)[0] > lowest


def unsigned_weights(value: Value) -> Weights:
    """Return a constant's bytes as unsigned numbers with their zero point (B8)."""
    signed = value.type.dtype is DType.INT8
    data = raw_bytes(value)
    zero = (value.type.zero_point + (128 if signed else 0)) & 0xFF
    return Weights(np.bitwise_xor(data, np.uint8(0x80)) if signed else data, zero, zero)


def _scale(a: float, b: float, out: float) -> np.float32:
    return np.float32(a * b / out)


def uses_blocks(op: Convolution) -> bool:
    """Whether a stride-2 convolution runs on 2x2 blocks of pixels brought into channels.

    Depthwise and 1x1 ones are computed at stride 1 instead, and three of four results dropped.
    """
    return op.stride == (2, 2) and isinstance(op, Conv2D) and op.weights.shape[1:3] != (1, 1)


def blocks_shape(op: Convolution) -> tuple[int, int, int, int]:
    """Return the shape of the 2x2 blocks that the outputs of a convolution look at."""
    _, rows, columns, _ = op.weights.shape
    _, out_height, out_width, _ = op.output.shape
    return (
        1, out_height + cdiv(rows, 2) - 1, out_width + cdiv(columns, 2) - 1, 4 * op.input.shape[3]
    )  # fmt: skip


def convolution(op: Convolution, chip: Chip) -> Layer:
    """Return the layer of a convolution that `checks_exact` accepts."""
    source, target = Tensor.of(op.input), Tensor.of(op.output)
    _, rows, columns, _ = op.weights.shape
    channels = target.shape[3]
    strided = op.stride == (2, 2)
    plain = Layer(
        kind=Kind.CONVOLUTION,
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
        scale=_scale(op.input.type.scale, op.weights.type.scale, op.output.type.scale),
        weights=unsigned_weights(op.weights),
        bias=bias_of(op.bias, channels),
        stride=op.stride[0],
        pointwise=(rows, columns) == (1, 1),
        relu=_clamps(op),
        first_pixel=strided and not uses_blocks(op),
        title=op.title,
    )
    layer = _depthwise(plain, chip) if isinstance(op, DepthwiseConv2D) else _full(plain)
    if uses_blocks(op):
        return _on_blocks(layer, blocks_shape(op))
    return _padded(_grown(layer), op.padding)


def _padded(layer: Layer, padding: Padding) -> Layer:
    """Put the first tap where the padding says (B5, B17)."""
    return replace(layer, offset=-padding.left, offset_y=-padding.top)


def _full(layer: Layer) -> Layer:
    kernels = layer.weights.data.reshape(layer.out_channels, layer.taps, layer.in_channels)
    data = np.ascontiguousarray(kernels.transpose(0, 2, 1)).reshape(-1)
    return replace(layer, weights=replace(layer.weights, data=data))


def _depthwise(layer: Layer, chip: Chip) -> Layer:
    """Return a depthwise layer: V8 has a mode for it, V7 computes it as a full convolution.

    So does V8 where a channel has several kernels, or where there are fewer channels than cores
    (B4: the order of the streams is not known there).
    """
    channels, taps = layer.out_channels, layer.taps
    data = np.ascontiguousarray(layer.weights.data.reshape(taps, channels).T).reshape(-1)
    arranged = replace(layer, weights=replace(layer.weights, data=data))
    if layer.in_channels == 1:
        return arranged
    if channels != layer.in_channels:
        return replace(arranged, weights=replace(layer.weights, data=_spread(arranged, data)))
    if chip.depthwise_mode and channels >= chip.nn_core_count:
        return replace(arranged, depthwise=True, in_channels=1)
    diagonal = replace(arranged, weights=replace(arranged.weights, diagonal=True))
    if not chip.huffman:
        return diagonal
    dense = np.ascontiguousarray(dense_weights(diagonal)).reshape(-1)
    return replace(arranged, weights=replace(arranged.weights, data=dense))


def _spread(layer: Layer, data: U8) -> U8:
    """Return full weights of a depthwise layer with several kernels for each channel."""
    channels, taps = layer.out_channels, layer.taps
    dense = np.full((channels, layer.in_channels, taps), layer.weights.fill, np.uint8)
    numbers = np.arange(channels)
    dense[numbers, numbers // (channels // layer.in_channels)] = data.reshape(channels, taps)
    return dense.reshape(-1)


def _grown(layer: Layer) -> Layer:
    """Make 1x1 kernels of one channel 2x2, as Mesa does: the new taps weigh nothing."""
    if layer.taps != 1 or layer.in_channels != 1 or layer.depthwise:
        return layer
    grown = np.full((layer.out_channels, 4), layer.weights.fill, np.uint8)
    grown[:, 0] = layer.weights.data
    return replace(
        layer, weights=replace(layer.weights, data=grown.reshape(-1)), pointwise=False,
        kernel_height=2, kernel_width=2,
    )  # fmt: skip


def _on_blocks(layer: Layer, shape: tuple[int, int, int, int]) -> Layer:
    """Turn a stride-2 layer into a stride-1 layer over 2x2 blocks; the blocks hold the padding."""
    dense = dense_weights(layer)
    kernels, channels, rows, columns = dense.shape
    half = (cdiv(rows, 2), cdiv(columns, 2))
    data = np.full((kernels, channels, 4, *half), layer.weights.fill, np.uint8)
    for part in range(4):
        piece = dense[:, :, part // 2 :: 2, part % 2 :: 2]
        data[:, :, part, : piece.shape[2], : piece.shape[3]] = piece
    return replace(
        layer,
        height=shape[1],
        width=shape[2],
        in_channels=shape[3],
        planes=shape[3],
        kernel_height=half[0],
        kernel_width=half[1],
        weights=replace(layer.weights, data=data.reshape(-1)),
        pointwise=half == (1, 1),
    )


def fully_connected(op: FullyConnected, chip: Chip) -> Layer:
    """Return the layer of a fully connected operation: a convolution with one output pixel.

    On V7 its planes follow one another as the cores read them (B19).
    """
    target = Tensor.of(op.output)
    inputs, outputs = op.weights.shape[-1], op.weights.shape[0]
    x, y, planes = fc_factors(inputs, chip.kernel_size_max)
    layer = Layer(
        kind=Kind.CONVOLUTION,
        height=y,
        width=x,
        in_channels=planes,
        planes=planes,
        out_height=1,
        out_width=1,
        out_channels=outputs,
        kernel_height=y,
        kernel_width=x,
        in_zero=Tensor.of(op.input).zero_point,
        out_zero=target.zero_point,
        scale=_scale(op.input.type.scale, op.weights.type.scale, op.output.type.scale),
        weights=unsigned_weights(op.weights),
        bias=bias_of(op.bias, outputs),
        pointwise=(x, y) == (1, 1),
        relu=_clamps(op),
        title=op.title,
    )
    return _grown(layer)


def sum_shape(size: int, chip: Chip) -> tuple[int, int, int] | None:
    """Return (planes, rows, columns) with this product: how an addition's bytes are cut.

    On V8 as many planes as there are cores where that divides, on V7 one as in Mesa: more cores
    would mean more streams of at least 64 bytes. None where no cut fits the fields.
    """
    most = chip.nn_core_count if chip.huffman else 1
    for planes in range(min(most, size), 0, -1):
        if size % planes:
            continue
        pixels = size // planes
        least = cdiv(pixels, SIZE_MAX)
        for rows in range(least, min(pixels, SIZE_MAX) + 1):
            if pixels % rows == 0:
                return planes, rows, pixels // rows
    return None


def _weights_in_ratio(ratio: float) -> tuple[int, int]:
    """Return two weights, the first positive, whose quotient is as near to `ratio` as 8 bits allow.

    Both count from the weights' zero point, so together they span at most 255.
    """
    if not -254 <= ratio <= 255:  # the first operand's weight is 1 or 0
        other_end = 255 if ratio > 0 else -254
        return round(other_end / ratio), other_end
    one = np.arange(255, 0, -1)
    other = np.rint(ratio * one).astype(np.int64)
    fits = np.maximum(np.maximum(one, other), one - other) <= 255
    error = np.abs(other - ratio * one) / np.maximum(one, np.abs(other))
    best = int(np.where(fits, error, np.inf).argmin())
    return int(one[best]), int(other[best])


def addition(op: Add | Sub, chip: Chip) -> Layer:
    """Return the layer of a sum or difference: a 1x1 convolution over both operands' planes.

    The operands' bytes lie one behind the other; how they are cut into planes is free, as long as
    it is the same for both. Weights have 8 bits, so the result may be off by one step.
    Ref: section 4.9 (V8's form and its arithmetic)
    """
    a, b, target = Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output)
    shape = sum_shape(a.size_bytes, chip)
    assert shape is not None, "checks_exact asks for it"
    planes, rows, columns = shape
    ratio = float(b.scale) / float(a.scale) * (-1 if isinstance(op, Sub) else 1)
    one, other = _weights_in_ratio(ratio)
    zero = max(-other, 0)
    first, second = one + zero, other + zero
    step = 1 / one if abs(ratio) <= 1 else ratio / other  # the larger operand's weight is exact
    weights = np.full((planes, 2 * planes), zero, np.uint8)
    numbers = np.arange(planes)
    weights[numbers, numbers] = first
    weights[numbers, planes + numbers] = second
    # The first operand's zero point stands for both in the border and bias: correct the second's.
    bias = (second - zero) * (a.zero_point - b.zero_point)
    return Layer(
        kind=Kind.CONVOLUTION,
        height=rows,
        width=columns,
        in_channels=2 * planes,
        planes=2 * planes,
        out_height=rows,
        out_width=columns,
        out_channels=planes,
        kernel_height=1,
        kernel_width=1,
        in_zero=a.zero_point,
        out_zero=target.zero_point,
        scale=_scale(float(a.scale), step, float(target.scale)),
        weights=Weights(weights.reshape(-1), zero, zero),
        bias=np.full(planes, bias, np.int32),
        pointwise=True,
        relu=_clamps(op),
        title=op.title,
    )
