"""Convolutions and the fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from teflon.frontend.tflite.node import NodeView, spatial
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type, per_axis
from teflon.ir import DType, Op, Quantization, TensorType, Value, ops

Convolution = ops.Conv2D | ops.DepthwiseConv2D

# CONV_2D: input, weights OHWI, optional bias ------------------------------------------------


def _read_conv2d(node: NodeView) -> Op:
    return _convolution(node, ops.Conv2D, node.input(0, 4), node.input(1, 4))


def _write_conv2d(op: ops.Conv2D) -> Written:
    bias = _zero_bias(op) if op.bias is None else op.bias
    return Written([op.input, op.weights, bias], _window(op))


def _version_of_conv2d(op: ops.Conv2D) -> int:
    dilated = 2 if op.dilation != (1, 1) else 1
    return max(dilated, by_type(i8=3, i16=4)(op))


def _convolution(node: NodeView, kind: type[Convolution], x: Value, weights: Value) -> Op:
    stride, dilation = node.pair("stride_{}"), node.pair("dilation_{}_factor")
    return kind(
        input=x,
        weights=weights,
        bias=node.optional(2),
        output=node.output,
        stride=stride,
        dilation=dilation,
        padding=node.padding(spatial(x), spatial(weights), stride, dilation),
        activation=node.activation(),
        index=node.index,
    )


def _window(op: Convolution) -> dict[str, Any]:
    return {
        "padding": attributes.padding(op, spatial(op.input), spatial(op.weights), op.dilation),
        **attributes.strides(op),
        "fused_activation_function": attributes.activation(op),
        "dilation_h_factor": op.dilation[0],
        "dilation_w_factor": op.dilation[1],
    }


def _zero_bias(op: ops.Conv2D) -> Value:
    """Return a bias of zeros: TFLite's CONV_2D refuses to run without one."""
    kinds = {DType.FLOAT32: DType.FLOAT32, DType.INT16: DType.INT64}
    dtype = kinds.get(op.input.type.dtype, DType.INT32)
    data = np.zeros(op.weights.shape[0], dtype.numpy)
    data.flags.writeable = False
    quantization = op.weights.type.quantization
    if quantization is not None:
        scales = [float(np.float32(op.input.type.scale * s)) for s in quantization.scales]
        axis = 0 if len(scales) > 1 else None
        quantization = Quantization(tuple(scales), (0,) * len(scales), axis)
    return Value(f"{op.where}/bias", TensorType(dtype, data.shape, quantization), data)


def _with_bias(op: ops.DepthwiseConv2D | ops.FullyConnected) -> list[Value]:
    """Return the operands; an absent bias is left out, as TFLite refuses -1 for it."""
    return [op.input, op.weights] if op.bias is None else [op.input, op.weights, op.bias]


# DEPTHWISE_CONV_2D: the multiplier follows from the shapes; the option must agree ------------


def _read_depthwise_conv2d(node: NodeView) -> Op:
    x, weights = node.input(0, 4), node.input(1, 4)
    multiplier = node.option("depth_multiplier")
    node.require(
        multiplier in (0, weights.shape[3] / max(x.shape[3], 1)),
        f"depth multiplier is {multiplier}, must be {weights.shape[3]} / {x.shape[3]}",
    )
    return _convolution(node, ops.DepthwiseConv2D, x, weights)


def _write_depthwise_conv2d(op: ops.DepthwiseConv2D) -> Written:
    multiplier = op.weights.shape[3] // op.input.shape[3]
    return Written(_with_bias(op), {**_window(op), "depth_multiplier": multiplier})


def _version_of_depthwise_conv2d(op: ops.DepthwiseConv2D) -> int:
    dilated = 2 if op.dilation != (1, 1) else 1
    return max(dilated, by_type(i8=3, i16=5)(op))


# TRANSPOSE_CONV: output shape, weights, input, optional bias ---------------------------------


def _read_transpose_conv(node: NodeView) -> Op:
    weights, x = node.input(1, 4), node.input(2, 4)
    shape = node.constant(0, "output shape")
    out = node.output_shaped(shape)
    node.require(
        shape == out.shape,
        f"output shape is {list(shape)}, must be the output's, {list(out.shape)}",
    )
    node.require(len(shape) == 4, f"output shape is {list(shape)}, must have 4 numbers")
    stride = node.pair("stride_{}")
    return ops.TransposeConv(
        input=x,
        weights=weights,
        bias=node.optional(3),
        output=out,
        stride=stride,
        padding=node.padding(spatial(out), spatial(weights), stride),
        activation=node.activation(),
        index=node.index,
    )


def _write_transpose_conv(op: ops.TransposeConv) -> Written:
    fields = {
        "padding": attributes.padding(op, spatial(op.output), spatial(op.weights)),
        **attributes.strides(op),
        "fused_activation_function": attributes.activation(op),
    }
    shape = attributes.operand(op, "output_shape", op.output.shape)
    bias = [] if op.bias is None else [op.bias]
    return Written([shape, op.weights, op.input, *bias], fields)


def _version_of_transpose_conv(op: ops.TransposeConv) -> int:
    needs = [by_type(i8=2)(op)]
    needs += [3] * (op.bias is not None) + [4] * (op.activation.value != "none")
    return max(needs)


# FULLY_CONNECTED: input, weights [O, K], optional bias ----------------------------------------


def _read_fully_connected(node: NodeView) -> Op:
    form = node.option("weights_format")
    node.require(form == 0, f"weights format is {form}, must be 0 (plain)")
    return ops.FullyConnected(
        input=node.input(0),
        weights=node.input(1, 2),
        bias=node.optional(2),
        output=node.output,
        keep_num_dims=bool(node.option("keep_num_dims")),
        activation=node.activation(),
        index=node.index,
    )


def _write_fully_connected(op: ops.FullyConnected) -> Written:
    fields = {
        "fused_activation_function": attributes.activation(op),
        "keep_num_dims": op.keep_num_dims,
    }
    return Written(_with_bias(op), fields)


def _version_of_fully_connected(op: ops.FullyConnected) -> int:
    needs = [by_type(i8=4, i16=7)(op)]
    needs += [5] * op.keep_num_dims + [6] * (op.bias is None)
    needs += [12] * per_axis(op.weights.type)
    return max(needs)


ROWS = (
    Row(
        kind=ops.Conv2D, read=_read_conv2d, write=_write_conv2d, inputs=(2, 3),
        newest=8, version=_version_of_conv2d, options="Conv2DOptions",
        runtime="padding:padding stride_w:i32 stride_h:i32 fused_activation_function:i32"
                " dilation_w_factor:i32 dilation_h_factor:i32",
    ),
    Row(
        kind=ops.DepthwiseConv2D, read=_read_depthwise_conv2d, write=_write_depthwise_conv2d,
        inputs=(2, 3), newest=7, version=_version_of_depthwise_conv2d,
        options="DepthwiseConv2DOptions",
        runtime="padding:padding stride_w:i32 stride_h:i32 depth_multiplier:i32"
                " fused_activation_function:i32 dilation_w_factor:i32 dilation_h_factor:i32",
    ),
    Row(
        kind=ops.TransposeConv, read=_read_transpose_conv, write=_write_transpose_conv,
        inputs=(3, 4), newest=5, version=_version_of_transpose_conv, options="TransposeConvOptions",
        runtime="padding:padding stride_w:i32 stride_h:i32 fused_activation_function:i32",
    ),
    Row(
        kind=ops.FullyConnected, read=_read_fully_connected, write=_write_fully_connected,
        inputs=(2, 3), newest=14, version=_version_of_fully_connected,
        options="FullyConnectedOptions",
        runtime="fused_activation_function:i32 weights_format:i32 keep_num_dims:bool"
                " asymmetric_quantize_inputs:bool",
    ),
)  # fmt: skip
