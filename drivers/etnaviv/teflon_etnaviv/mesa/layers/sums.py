"""Layers of ADD and SUB, as Mesa forms them; a fused activation is ignored.

Ref: docs/hardware/etnaviv.md section 4.9
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c
"""

from __future__ import annotations

import numpy as np

from teflon.ir.ops import Add, Sub
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn.layer import Layer, Weights
from teflon_etnaviv.rounding import c_round
from teflon_etnaviv.tensors import Tensor

_X_LIMIT = 8191


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
