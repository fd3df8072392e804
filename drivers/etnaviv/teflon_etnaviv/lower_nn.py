"""From graph operations to NN layers, as Mesa forms them.

Ref: docs/hardware/etnaviv.md sections 4.1, 4.2, 4.4, 4.9, 4.10
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c and etnaviv_ml.c
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, FullyConnected, Sub
from teflon.ir.types import Activation, DType
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.layer import I32, U8, Kind, Layer, Weights
from teflon_etnaviv.operations import Tensor
from teflon_etnaviv.tiling import cdiv

Convolution = Conv2D | DepthwiseConv2D
_X_LIMIT = 8191


def c_round(value: float) -> int:
    """Round to nearest, halves away from zero, as C's round()."""
    whole = math.floor(abs(value))
    rounded = whole + (abs(value) - whole >= 0.5)
    return rounded if value >= 0 else -rounded


def raw_bytes(value: Value) -> U8:
    """Return a constant's bytes as they lie in the file."""
    assert value.data is not None, "only called for constants"
    return np.ascontiguousarray(value.data).reshape(-1).view(np.uint8)


def bias_of(value: Value | None, channels: int) -> I32:
    """Return a layer's biases, zeros where it has none."""
    if value is None or value.data is None:
        return np.zeros(channels, np.int32)
    return value.data.reshape(-1).astype(np.int32)


def _weights_zero(value: Value) -> int:
    signed = value.type.dtype is DType.INT8
    return (value.type.zero_point + (128 if signed else 0)) & 0xFF


def pads(op: Convolution) -> bool:
    """Whether the operation pads at all: Mesa's `same`."""
    p = op.padding
    return any((p.top, p.bottom, p.left, p.right))


def is_pointwise(op: Convolution) -> bool:
    """Mesa's flag: 1x1, and not with a fused RELU6, for which its frontend returns early (B3)."""
    return op.weights.shape[1:3] == (1, 1) and op.activation is not Activation.RELU6


@dataclass(frozen=True)
class StrideForm:
    """How a strided convolution is carried out (section 4.1)."""

    reshuffle: bool  # a TP job brings each 2x2 block's pixels into channels first
    first_pixel: bool  # computed at stride 1, three of four results dropped


def stride_form(op: Convolution, chip: Chip) -> StrideForm:
    """Return the form Mesa chooses."""
    if op.stride[0] == 1:
        return StrideForm(False, False)
    _, height, _, in_channels = op.input.shape
    depthwise, pointwise = isinstance(op, DepthwiseConv2D), is_pointwise(op)
    if chip.huffman:
        dense = height >= 3 and in_channels > 1
        reshuffle = not (depthwise or (pointwise and (dense or pads(op))))
        return StrideForm(reshuffle, depthwise or (pointwise and (dense or pads(op))))
    reshuffle = not (pointwise or (depthwise and (height > 5 or height < 3)))
    first_pixel = (depthwise or pointwise) and not (depthwise and 2 < height < 8)
    return StrideForm(reshuffle, first_pixel)


def convolution(op: Convolution, chip: Chip) -> Layer:
    """Return the layer of a convolution with equal strides of 1 or 2."""
    source, target = Tensor.of(op.input), Tensor.of(op.output)
    form = stride_form(op, chip)
    _, height, width, in_channels = source.shape
    _, kernel_h, kernel_w, _ = op.weights.shape
    channels = target.shape[3]
    zero = _weights_zero(op.weights)
    signed = op.weights.type.dtype is DType.INT8
    scale = source.scale * np.float32(op.weights.type.scale) / target.scale
    plain = Layer(
        kind=Kind.CONVOLUTION,
        height=height,
        width=width,
        in_channels=in_channels,
        planes=in_channels,
        out_height=target.shape[1],
        out_width=target.shape[2],
        out_channels=channels,
        kernel_height=kernel_h,
        kernel_width=kernel_w,
        in_zero=source.zero_point,
        out_zero=target.zero_point,
        scale=np.float32(scale),
        weights=Weights(raw_bytes(op.weights), zero, (zero - 128 * signed) & 0xFF, signed),
        bias=bias_of(op.bias, channels),
        stride=op.stride[0],
        depthwise=isinstance(op, DepthwiseConv2D),
        pointwise=is_pointwise(op),
        relu=op.activation in (Activation.RELU, Activation.RELU6),
        first_pixel=form.first_pixel,
        title=op.title,
    )
    layer = arrange_weights(plain, chip)
    if layer.stride > 1 and not layer.first_pixel:
        layer = _destride(layer, pads(op))
    return replace(layer, offset=_first_tap(layer) if pads(op) else 0)


def arrange_weights(layer: Layer, chip: Chip) -> Layer:
    """Bring weights into [OC][IC][KH][KW] order (steps 1 to 3 of section 4.2 but for strides)."""
    weights = layer.weights
    if layer.pointwise and layer.in_channels == 1:
        grown = np.full((layer.out_channels, 4), weights.fill, np.uint8)
        grown[:, 0] = weights.data
        return replace(
            layer, weights=replace(weights, data=grown.reshape(-1)), pointwise=False,
            kernel_height=2, kernel_width=2,
        )  # fmt: skip
    taps = layer.taps
    if layer.depthwise:
        data = np.ascontiguousarray(weights.data.reshape(taps, layer.out_channels).T).reshape(-1)
        if chip.huffman:
            return replace(layer, weights=replace(weights, data=data), in_channels=1)
        diagonal = layer.in_channels > 1
        return replace(layer, weights=replace(weights, data=data, diagonal=diagonal))
    kernels = weights.data.reshape(layer.out_channels, taps, layer.in_channels)
    data = np.ascontiguousarray(kernels.transpose(0, 2, 1)).reshape(-1)
    return replace(layer, weights=replace(weights, data=data))


def dense_weights(layer: Layer) -> U8:
    """Return weights as [OC][IC][KH][KW], diagonal ones expanded."""
    shape = (layer.out_channels, layer.in_channels, layer.kernel_height, layer.kernel_width)
    if not layer.weights.diagonal:
        return layer.weights.data.reshape(shape)
    dense = np.full(shape, layer.weights.fill, np.uint8)
    channels = np.arange(layer.out_channels)
    dense[channels, channels] = layer.weights.data.reshape(-1, *shape[2:])
    return dense


def _destride(layer: Layer, same: bool) -> Layer:
    """Turn a stride-2 layer into a stride-1 layer over four times the channels, half the size."""
    dense = dense_weights(layer)
    kernels, channels, rows, columns = dense.shape
    half_rows, half_columns = cdiv(rows, 2), cdiv(columns, 2)
    data = np.full((kernels, channels, 4, half_rows, half_columns), layer.weights.fill, np.uint8)
    for part in range(4):
        piece = dense[:, :, part // 2 :: 2, part % 2 :: 2]
        data[:, :, part, : piece.shape[2], : piece.shape[3]] = piece
    more = (2 if rows == 5 else 1) if same else 0
    return replace(
        layer,
        height=cdiv(layer.height, 2) + more,
        width=cdiv(layer.width, 2) + more,
        in_channels=4 * channels,
        planes=4 * channels,
        kernel_height=half_rows,
        kernel_width=half_columns,
        weights=replace(layer.weights, data=data.reshape(-1), diagonal=False),
    )


def _first_tap(layer: Layer) -> int:
    """Return the offset of the first tap of a padded convolution (section 4.4)."""
    x, kernel = layer.width, layer.kernel_height
    if layer.stride == 1:
        if kernel <= 2:
            return 0
        return -1 if kernel < 5 else -2
    if not 2 < kernel <= x:
        return 0
    if not (x < 5 or (layer.depthwise and 5 in (kernel, x))):
        return 0
    return -1 if (x <= 5 and kernel < 5) or (x > 5 and kernel >= 5) else -2


def fully_connected(op: FullyConnected) -> Layer:
    """Return the layer of a fully connected operation; its activation is ignored, as in Mesa."""
    source, target = Tensor.of(op.input), Tensor.of(op.output)
    inputs, outputs = op.weights.shape[-1], target.shape[3]
    zero = _weights_zero(op.weights)
    signed = op.weights.type.dtype is DType.INT8
    scale = source.scale * np.float32(op.weights.type.scale) / target.scale
    return Layer(
        kind=Kind.FULLY_CONNECTED,
        height=inputs,
        width=1,
        in_channels=1,
        planes=1,
        out_height=1,
        out_width=1,
        out_channels=outputs,
        kernel_height=inputs,
        kernel_width=1,
        in_zero=source.zero_point,
        out_zero=target.zero_point,
        scale=np.float32(scale),
        weights=Weights(raw_bytes(op.weights), zero, (zero - 128 * signed) & 0xFF, signed),
        bias=bias_of(op.bias, outputs),
        title=op.title,
    )


def addition(op: Add | Sub, chip: Chip) -> Layer:
    """Return the layer of an addition or subtraction (section 4.9); activation is ignored."""
    return _addition_v8(op) if chip.huffman else _addition_v7(op)


def _row_length(pixels: int) -> int:
    """Return the length that an addition's data is cut into (Mesa's width)."""
    for width in (128, 64, 32):
        if pixels % width == 0:
            return width
    return next(d for d in range(min(pixels, 63), 0, -1) if pixels % d == 0)


def _addition_v7(op: Add | Sub) -> Layer:
    a, b, target = Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output)
    _, height, width, _ = a.shape
    columns = _row_length(height * width)
    rows = a.size_bytes // columns
    ratio = np.float32(b.scale / a.scale)
    weight_scale = np.float32(max(float(ratio), 1.0) / 255.0)
    first = c_round(1.0 / float(weight_scale)) & 0xFF
    second = c_round(float(ratio) / float(weight_scale))
    zero_a, zero_b = (v.type.zero_point & 0xFF for v in (op.a, op.b))
    bias = np.float32(zero_a - zero_b) * b.scale / np.float32(weight_scale * a.scale)
    weights = np.array([first, 0, 0, 0], np.uint8)
    return Layer(
        kind=Kind.ADDITION,
        height=columns,
        width=rows,
        in_channels=1,
        planes=2,
        out_height=columns,
        out_width=rows,
        out_channels=1,
        kernel_height=2,
        kernel_width=2,
        in_zero=a.zero_point,
        out_zero=target.zero_point,
        scale=np.float32(np.float32(a.scale * weight_scale) / target.scale),
        weights=Weights(weights, 0, 0),
        bias=np.array([c_round(float(bias)) - second * zero_a], np.int64).astype(np.int32),
        addend=second & 0xFF,
        title=op.title,
    )


def _addition_shape(a: Tensor, out: Tensor) -> tuple[int, int, int, int, int, int, int, int]:
    """Return (H, W, IC, H_o, W_o, OC, KH, KW) of the convolution that adds on V8."""
    _, height, width, channels = a.shape
    _, out_height, out_width, out_channels = out.shape
    if height % 2 == 0 and width * channels <= _X_LIMIT:
        row = width * channels
        return 4, row, height // 2, 1, out_width * out_channels, out_height, 1, 4
    pixels = height * width
    if channels % 3 == 0 and pixels <= _X_LIMIT:
        return 3, pixels, 2 * channels // 3, 1, out_height * out_width, out_channels, 1, 3
    return height, width, 2 * channels, height, width, channels, 1, 1


def _addition_v8(op: Add | Sub) -> Layer:
    a, b, target = Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output)
    height, width, planes, out_height, out_width, kernels, rows, columns = _addition_shape(
        a, target
    )
    negative = isinstance(op, Sub)
    low = np.float32(b.scale / a.scale)
    low = np.float32(-low) if negative else low
    high = np.float32(1.0)
    most, least = max(low, high), min(low, high, np.float32(0))
    weight_scale = np.float32(np.float32(most - least) / np.float32(255))
    zero = min(max(c_round(-float(np.float32(least / weight_scale))), 0), 255)
    first = (c_round(float(np.float32(high / weight_scale))) + zero) & 0xFF
    second = max(0, c_round(float(np.float32(low / weight_scale)))) & 0xFF
    count = rows * columns * planes
    weights = np.full(kernels * count, zero, np.uint8)
    diagonal = np.arange(kernels) * (count + 1)
    addend = diagonal + kernels
    weights[addend[addend < len(weights)]] = second
    weights[diagonal] = first
    ratio = float(b.scale) / float(np.float32(a.scale * weight_scale))
    bias = (a.zero_point - b.zero_point) * c_round(-ratio if negative else ratio)
    return Layer(
        kind=Kind.CONVOLUTION,
        height=height,
        width=width,
        in_channels=planes,
        planes=planes,
        out_height=out_height,
        out_width=out_width,
        out_channels=kernels,
        kernel_height=rows,
        kernel_width=columns,
        in_zero=a.zero_point,
        out_zero=target.zero_point,
        scale=np.float32(np.float32(a.scale * weight_scale) / target.scale),
        weights=Weights(weights, zero, zero),
        bias=np.full(kernels, bias, np.int32),
        title=op.title,
    )
