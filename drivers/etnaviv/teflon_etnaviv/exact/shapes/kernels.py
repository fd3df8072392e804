"""Kernels of other shapes: weights as arrays, filled up with their zero point.

Ref: docs/hardware/etnaviv.md section 4.2 (strides by blocks)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.types import Array, Quantization, TensorType
from teflon_etnaviv.exact.shapes.forms import Convolution, Pair, Phases, filled, is_depthwise
from teflon_etnaviv.rounding import cdiv


def _data(value: Value) -> Array:
    assert value.data is not None, "a rule asks for it"
    return value.data


def with_data(value: Value, data: Array, axis: int = 0, times: int = 1) -> Value:
    """Return a constant with other data; along `axis` each scale is for `times` channels now."""
    kind = value.type.quantization
    if kind is not None and kind.axis is not None:
        scales, zeros = np.repeat(kind.scales, times), np.repeat(kind.zero_points, times)
        kind = Quantization(tuple(scales.tolist()), tuple(zeros.tolist()), axis)
    return Value(value.name, TensorType(value.type.dtype, data.shape, kind), data)


def undilated(op: Convolution) -> Convolution:
    """Return a convolution without dilation: its kernel has the skipped elements, too."""
    if op.dilation == (1, 1):
        return op
    old = _data(op.weights)
    shape = (old.shape[0], *filled(op), old.shape[3])
    data = np.full(shape, op.weights.type.zero_point, old.dtype)
    data[:, :: op.dilation[0], :: op.dilation[1]] = old
    kind = op.weights.type.quantization
    axis = kind.axis if kind is not None and kind.axis is not None else 0
    changed: Convolution = replace(
        op, weights=with_data(op.weights, data, axis), dilation=(1, 1), location=op.where
    )
    return changed


def ungrouped(op: Convolution) -> Convolution:
    """Return a convolution without groups: a depthwise one, or one with zeros for all channels of
    other groups.
    """
    if isinstance(op, DepthwiseConv2D) or op.weights.shape[3] == op.input.shape[3]:
        return op
    if is_depthwise(op):
        data = np.ascontiguousarray(_data(op.weights).transpose(3, 1, 2, 0))
        return DepthwiseConv2D(
            input=op.input, weights=with_data(op.weights, data, 3), bias=op.bias,
            output=op.output, stride=op.stride, dilation=op.dilation, padding=op.padding,
            activation=op.activation, clamp=op.clamp, location=op.where, index=op.index,
        )  # fmt: skip
    data = _ungrouped(_data(op.weights), op.input.shape[3], op.weights.type.zero_point)
    return replace(op, weights=with_data(op.weights, data), location=op.where)


def _ungrouped(old: Array, channels: int, zero: int) -> Array:
    """Return [O, rows, columns, channels] of weights that look at a group of channels each."""
    outputs, high, wide, depth = old.shape
    groups = channels // depth
    data = np.full((groups, outputs // groups, high, wide, groups, depth), zero, old.dtype)
    numbers = np.arange(groups)
    data[numbers, :, :, :, numbers] = old.reshape(groups, outputs // groups, high, wide, depth)
    return data.reshape(outputs, high, wide, channels)


def dense(op: Convolution) -> Array:
    """Return the weights of a convolution as [O, rows, columns, I]."""
    data = _data(op.weights)
    if not isinstance(op, DepthwiseConv2D):
        return data
    single = np.ascontiguousarray(data.transpose(3, 1, 2, 0))
    return _ungrouped(single, op.input.shape[3], op.weights.type.zero_point)


def over_blocks(op: Convolution, sizes: Phases) -> Array:
    """Return weights over blocks: [O * times, rows, columns, I * block].

    Output channel (o s + y) t + x is the one at row y and column x of (s, t) outputs; the order of
    input channels is that of `tp.blocks.Blocks`.
    """
    old, (down, across) = dense(op), op.stride
    outputs, high, wide, inputs = old.shape
    (rows, columns), (step_y, step_x) = sizes.kernel, sizes.step
    shape = (outputs, *sizes.times, rows * step_y, columns * step_x, inputs)
    data = np.full(shape, op.weights.type.zero_point, old.dtype)
    for y, x in np.ndindex(*sizes.times):
        top, left = y * down, x * across
        data[:, y, x, top : top + high, left : left + wide] = old
    split = data.reshape(-1, rows, step_y, columns, step_x, inputs)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 5, 2, 4)).reshape(
        -1, rows, columns, inputs * step_y * step_x
    )


def of_transposed(op: TransposeConv) -> Array:
    """Return weights of a transposed convolution: [O * places in a block, rows, columns, I].

    Output channel (o s + y) t + x is the one at row y and column x of blocks of (s, t) outputs.
    """
    old, zero = _data(op.weights), op.weights.type.zero_point
    outputs, high, wide, inputs = old.shape
    (down, across), (rows, columns) = op.stride, taps(op)
    data = np.full((outputs, rows * down, columns * across, inputs), zero, old.dtype)
    data[:, :high, :wide] = old
    split = data.reshape(outputs, rows, down, columns, across, inputs)[:, ::-1, :, ::-1]
    return np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3, 5)).reshape(
        -1, rows, columns, inputs
    )


def taps(op: TransposeConv) -> Pair:
    """Return rows and columns of the kernels that a transposed convolution consists of."""
    high, wide = op.weights.shape[1:3]
    return cdiv(high, op.stride[0]), cdiv(wide, op.stride[1])


def repeated(bias: Value | None, times: int) -> Value | None:
    """Return biases, each so many times."""
    if bias is None or times == 1:
        return bias
    data = np.repeat(_data(bias).reshape(-1), times)
    return Value(bias.name, TensorType(bias.type.dtype, data.shape), data)


def as_conv(op: Convolution | TransposeConv | FullyConnected, **changes: Any) -> Conv2D:
    """Return an ordinary convolution with the activation of another operation."""
    given: dict[str, Any] = {
        "activation": op.activation, "clamp": op.clamp, "location": op.where, "index": op.index,
    }  # fmt: skip
    return Conv2D(**{**given, **changes})
