"""Operators that compute: one small function for each, from a NodeView to an Op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.frontend.tflite.flexbuffer import Scalar, read_map
from teflon.frontend.tflite.node import NodeView, float32, spatial
from teflon.ir import DType, Op, Quantization, Value, ops

Reader = Callable[[NodeView], Op]

# Convolutions --------------------------------------------------------------------------------


def conv2d(node: NodeView) -> Op:
    """CONV_2D: input, weights OHWI, optional bias."""
    node.arity(2, 3)
    node.expect("Conv2DOptions")
    x, weights = node.input(0, 4), node.input(1, 4)
    return _convolution(node, ops.Conv2D, x, weights)


def depthwise_conv2d(node: NodeView) -> Op:
    """DEPTHWISE_CONV_2D: the multiplier follows from the shapes; the option must agree."""
    node.arity(2, 3)
    node.expect("DepthwiseConv2DOptions")
    x, weights = node.input(0, 4), node.input(1, 4)
    multiplier = node.option("depth_multiplier")
    node.require(
        multiplier in (0, weights.shape[3] / max(x.shape[3], 1)),
        f"depth multiplier is {multiplier}, must be {weights.shape[3]} / {x.shape[3]}",
    )
    return _convolution(node, ops.DepthwiseConv2D, x, weights)


def _convolution(
    node: NodeView, kind: type[ops.Conv2D | ops.DepthwiseConv2D], x: Value, weights: Value
) -> Op:
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


def transpose_conv(node: NodeView) -> Op:
    """TRANSPOSE_CONV: output shape, weights, input, optional bias."""
    node.arity(3, 4)
    node.expect("TransposeConvOptions")
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


def fully_connected(node: NodeView) -> Op:
    """FULLY_CONNECTED: input, weights [O, K], optional bias."""
    node.arity(2, 3)
    node.expect("FullyConnectedOptions")
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


# Element by element and activations -----------------------------------------------------------


def binary(kind: Callable[..., Op], options: str) -> Reader:
    """ADD, SUB, MUL: two operands and a fused activation."""

    def read(node: NodeView) -> Op:
        node.arity(2)
        node.expect(options)
        if options != "MulOptions" and node.output.type.dtype is DType.INT16:
            powers = bool(node.option("pot_scale_int16"))
            node.require(not powers, "int16 scales are powers of two, must be general ones")
        return kind(
            a=node.input(0),
            b=node.input(1),
            output=node.output,
            activation=node.activation(),
            index=node.index,
        )

    return read


def pick(kind: Callable[..., Op]) -> Reader:
    """MAXIMUM, MINIMUM: two operands."""

    def read(node: NodeView) -> Op:
        node.arity(2)
        return kind(a=node.input(0), b=node.input(1), output=node.output, index=node.index)

    return read


def unary(kind: Callable[..., Op]) -> Reader:
    """One operand, no options."""

    def read(node: NodeView) -> Op:
        node.arity(1)
        return kind(input=node.input(0), output=node.output, index=node.index)

    return read


def leaky_relu(node: NodeView) -> Op:
    """LEAKY_RELU."""
    node.arity(1)
    node.expect("LeakyReluOptions")
    alpha = float32(node.option("alpha"))
    return ops.LeakyRelu(input=node.input(0), output=node.output, alpha=alpha, index=node.index)


def softmax(node: NodeView) -> Op:
    """SOFTMAX."""
    node.arity(1)
    node.expect("SoftmaxOptions")
    beta = float32(node.option("beta"))
    return ops.Softmax(input=node.input(0), output=node.output, beta=beta, index=node.index)


# Pooling and resizing -------------------------------------------------------------------------


def pool(kind: Callable[..., Op]) -> Reader:
    """AVERAGE_POOL_2D, MAX_POOL_2D."""

    def read(node: NodeView) -> Op:
        node.arity(1)
        node.expect("Pool2DOptions")
        x, stride = node.input(0, 4), node.pair("stride_{}")
        kernel = int(node.option("filter_height")), int(node.option("filter_width"))
        node.require(min(kernel) >= 1, f"filter is {list(kernel)}, must be at least 1")
        return kind(
            input=x,
            output=node.output,
            kernel=kernel,
            stride=stride,
            padding=node.padding(spatial(x), kernel, stride),
            activation=node.activation(),
            index=node.index,
        )

    return read


def mean(node: NodeView) -> Op:
    """MEAN: input and constant axes."""
    node.arity(2)
    node.expect("ReducerOptions")
    x = node.input(0)
    axes = {node.axis(a, x.type.rank) for a in node.constant(1, "axes")}
    return ops.Mean(
        input=x,
        output=node.output,
        axes=tuple(sorted(axes)),
        keep_dims=bool(node.option("keep_dims")),
        index=node.index,
    )


def resize(kind: Callable[..., Op], options: str) -> Reader:
    """RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR: input and constant size."""

    def read(node: NodeView) -> Op:
        node.arity(2)
        node.expect(options)
        x, size = node.input(0, 4), node.constant(1, "size")
        node.require(len(size) == 2, f"size is {list(size)}, must have 2 numbers")
        out = node.output_shaped((x.shape[0], *size, x.shape[3]))
        node.require(
            size == out.shape[1:3],
            f"size is {list(size)}, must be the output's, {list(out.shape[1:3])}",
        )
        return kind(
            input=x,
            output=out,
            align_corners=bool(node.option("align_corners")),
            half_pixel_centers=bool(node.option("half_pixel_centers")),
            index=node.index,
        )

    return read


# Between real numbers and quantised ones ------------------------------------------------------


def quantize(node: NodeView) -> Op:
    """QUANTIZE: the output must say how."""
    node.arity(1)
    out = node.output
    node.require(out.type.quantization is not None, "output has no quantisation, must have one")
    return ops.Quantize(input=node.input(0), output=out, index=node.index)


def dequantize(node: NodeView) -> Op:
    """DEQUANTIZE of integers; from float16 it is a cast, which the IR does not have."""
    node.arity(1)
    x = node.input(0)
    q: Quantization | None = x.type.quantization
    node.require(q is not None, f"input is {x.type.dtype.value} without quantisation")
    return ops.Dequantize(input=x, output=node.output, index=node.index)


# Custom operators ------------------------------------------------------------------------------

_WHOLE = ("max_detections", "max_classes_per_detection", "num_classes")
_REAL = (
    "nms_score_threshold",
    "nms_iou_threshold",
    "y_scale",
    "x_scale",
    "h_scale",
    "w_scale",
)
_DETECTIONS_PER_CLASS = 100  # Ref: LiteRT, tflite/kernels/detection_postprocess.cc, Init


def detection(node: NodeView) -> Op:
    """TFLite_Detection_PostProcess: three operands, four results, a map of settings."""
    node.arity(3, outputs=4)
    try:
        found = read_map(node.custom_options)
    except ValueError as error:
        node.unread(f"custom options: {error}")
    missing = [name for name in _WHOLE + _REAL if name not in found]
    node.require(not missing, f"custom options lack {', '.join(missing)}")
    settings: dict[str, Any] = {name: _whole(node, name, found[name]) for name in _WHOLE}
    settings |= {name: float32(found[name]) for name in _REAL}
    each = found.get("detections_per_class", _DETECTIONS_PER_CLASS)
    return ops.DetectionPostProcess(
        boxes=node.input(0, 3),
        scores=node.input(1, 3),
        anchors=node.input(2, 2),
        outputs=node.outputs,
        detections_per_class=_whole(node, "detections_per_class", each),
        use_regular_nms=bool(found.get("use_regular_nms", False)),
        index=node.index,
        **settings,
    )


def _whole(node: NodeView, name: str, value: Scalar) -> int:
    good = float(value).is_integer() and 0 < value < 1 << 31
    node.require(good, f"{name} is {value}, must be a positive whole number")
    return int(value)
