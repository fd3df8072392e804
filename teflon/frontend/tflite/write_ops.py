"""One small function per operation class: an Op to what an Operator table of the file says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flatbuffers import flexbuffers

from teflon.errors import ModelError
from teflon.frontend.tflite import schema, versions
from teflon.frontend.tflite.emit import Embedded, Table, table
from teflon.ir import Activation, DType, Op, Padding, Quantization, TensorType, Value, ops
from teflon.ir.types import NO_PADDING

Pair = tuple[int, int]


@dataclass(frozen=True)
class Code:
    """One row of the file's operator codes."""

    builtin: int
    version: int = 1
    custom: str = ""


@dataclass(frozen=True)
class Node:
    """An operation as the file says it, with values instead of their numbers."""

    code: Code
    inputs: tuple[Value | None, ...]
    outputs: tuple[Value, ...]
    options: Table | Embedded | None = None
    custom_options: bytes | None = None


def node_of(op: Op) -> Node:
    """Return the operator of an operation. Raises ModelError where the format has none."""
    writer = _WRITERS.get(type(op))
    if writer is None:
        raise ModelError(f"{op.title}: the .tflite format has no operator for {op.mnemonic!r}")
    return writer(op)


def _builtin(
    op: Op,
    inputs: Sequence[Value | None],
    options: Table | None = None,
    *,
    version: int | None = None,
    name: str = "",
) -> Node:
    name = name or op.tflite_name
    number = versions.version_of(name, op) if version is None else version
    code = Code(schema.BUILTIN_OPERATORS.index(name), number)
    return Node(code, tuple(inputs), op.results, options)


def _operand(op: Op, what: str, numbers: Any) -> Value:
    """Return a constant int32 operand that carries an attribute."""
    data = np.array(numbers, np.int32)
    data.flags.writeable = False
    return Value(f"{op.where}/{what}", TensorType(DType.INT32, data.shape), data)


# Attributes that several operations share ---------------------------------------------------


def _activation(op: Any) -> int:
    activation = op.activation
    clamp = getattr(op, "clamp", None)
    if clamp is not None:
        activation = _activation_of(op, clamp)
    return schema.ACTIVATIONS.index(activation)


def _activation_of(op: Op, clamp: Pair) -> Activation:
    """Return the activation that means this clamp for the output's quantisation."""
    out = op.results[0].type
    limits = {
        Activation.NONE: (-np.inf, np.inf),
        Activation.RELU: (0.0, np.inf),
        Activation.RELU6: (0.0, 6.0),
        Activation.RELU_N1_TO_1: (-1.0, 1.0),
    }
    for activation, (low, high) in limits.items():
        if (_quantized(low, out), _quantized(high, out)) == clamp:
            return activation
    raise ModelError(
        f"{op.title}: clamp is {list(clamp)}, must be what an activation means for scale"
        f" {out.scale:g} and zero point {out.zero_point} (write the graph before it is lowered)"
    )


def _quantized(real: float, kind: TensorType) -> int:
    lowest, highest = kind.dtype.range
    if not np.isfinite(real):
        return highest if real > 0 else lowest
    steps = np.float32(real) / np.float32(kind.scale)
    nearest = int(np.copysign(np.floor(np.abs(steps) + np.float32(0.5)), steps))
    return min(max(kind.zero_point + nearest, lowest), highest)


def _padding(op: Any, size: Pair, kernel: Pair, dilation: Pair = (1, 1)) -> int:
    if op.padding == NO_PADDING:
        return schema.VALID
    same = Padding.same(size, kernel, op.stride, dilation)
    if op.padding == same:
        return schema.SAME
    p = op.padding
    raise ModelError(
        f"{op.title}: padding is top {p.top}, bottom {p.bottom}, left {p.left}, right {p.right},"
        f" must be none or SAME (top {same.top}, bottom {same.bottom}, left {same.left},"
        f" right {same.right}); the format needs a PAD operation before it"
    )


def _spatial(value: Value) -> Pair:
    return cast(Pair, value.shape[1:3])


def _with_bias(op: Any) -> list[Value]:
    """Return the operands of a convolution; an absent bias is left out, -1 is refused for it."""
    return [op.input, op.weights] if op.bias is None else [op.input, op.weights, op.bias]


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


def _strides(op: Any) -> dict[str, int]:
    return {"stride_h": op.stride[0], "stride_w": op.stride[1]}


# Convolutions --------------------------------------------------------------------------------


def _conv2d(op: ops.Conv2D) -> Node:
    options = table(
        "Conv2DOptions",
        padding=_padding(op, _spatial(op.input), _spatial(op.weights), op.dilation),
        **_strides(op),
        fused_activation_function=_activation(op),
        dilation_h_factor=op.dilation[0],
        dilation_w_factor=op.dilation[1],
    )
    operands = [op.input, op.weights, _zero_bias(op) if op.bias is None else op.bias]
    return _builtin(op, operands, options)


def _depthwise_conv2d(op: ops.DepthwiseConv2D) -> Node:
    options = table(
        "DepthwiseConv2DOptions",
        padding=_padding(op, _spatial(op.input), _spatial(op.weights), op.dilation),
        **_strides(op),
        depth_multiplier=op.weights.shape[3] // op.input.shape[3],
        fused_activation_function=_activation(op),
        dilation_h_factor=op.dilation[0],
        dilation_w_factor=op.dilation[1],
    )
    return _builtin(op, _with_bias(op), options)


def _transpose_conv(op: ops.TransposeConv) -> Node:
    options = table(
        "TransposeConvOptions",
        padding=_padding(op, _spatial(op.output), _spatial(op.weights)),
        **_strides(op),
        fused_activation_function=_activation(op),
    )
    shape = _operand(op, "output_shape", op.output.shape)
    bias = [] if op.bias is None else [op.bias]
    return _builtin(op, [shape, op.weights, op.input, *bias], options)


def _fully_connected(op: ops.FullyConnected) -> Node:
    options = table(
        "FullyConnectedOptions",
        fused_activation_function=_activation(op),
        keep_num_dims=op.keep_num_dims,
    )
    return _builtin(op, _with_bias(op), options)


# Element by element and activations -----------------------------------------------------------


def _binary(name: str) -> Callable[[Any], Node]:
    def write(op: ops.Add | ops.Sub | ops.Mul) -> Node:
        values: dict[str, Any] = {"fused_activation_function": _activation(op)}
        if name != "MulOptions" and op.output.type.dtype is DType.INT16:
            values["pot_scale_int16"] = False
        return _builtin(op, [op.a, op.b], table(name, **values))

    return write


def _pick(op: ops.Maximum | ops.Minimum) -> Node:
    return _builtin(op, [op.a, op.b], table("MaximumMinimumOptions"))


def _unary(options: str | None) -> Callable[[Any], Node]:
    def write(op: Any) -> Node:
        return _builtin(op, [op.input], None if options is None else table(options))

    return write


def _leaky_relu(op: ops.LeakyRelu) -> Node:
    return _builtin(op, [op.input], table("LeakyReluOptions", alpha=op.alpha))


def _softmax(op: ops.Softmax) -> Node:
    return _builtin(op, [op.input], table("SoftmaxOptions", beta=op.beta))


# Pooling and resizing -------------------------------------------------------------------------


def _pool(op: ops.AveragePool2D | ops.MaxPool2D) -> Node:
    options = table(
        "Pool2DOptions",
        padding=_padding(op, _spatial(op.input), op.kernel),
        **_strides(op),
        filter_height=op.kernel[0],
        filter_width=op.kernel[1],
        fused_activation_function=_activation(op),
    )
    return _builtin(op, [op.input], options)


def _mean(op: ops.Mean) -> Node:
    options = table("ReducerOptions", keep_dims=op.keep_dims)
    return _builtin(op, [op.input, _operand(op, "axes", op.axes)], options)


def _resize(name: str) -> Callable[[Any], Node]:
    def write(op: ops.ResizeNearestNeighbor | ops.ResizeBilinear) -> Node:
        options = table(
            name, align_corners=op.align_corners, half_pixel_centers=op.half_pixel_centers
        )
        return _builtin(op, [op.input, _operand(op, "size", op.output.shape[1:3])], options)

    return write


# Data movement --------------------------------------------------------------------------------


def _concatenation(op: ops.Concatenation) -> Node:
    options = table("ConcatenationOptions", axis=op.axis, fused_activation_function=_activation(op))
    return _builtin(op, op.inputs, options)


def _split(op: ops.Split) -> Node:
    options = table("SplitOptions", num_splits=len(op.outputs))
    return _builtin(op, [_operand(op, "axis", op.axis), op.input], options)


def _pack(op: ops.Pack) -> Node:
    return _builtin(op, op.inputs, table("PackOptions", values_count=len(op.inputs), axis=op.axis))


def _unpack(op: ops.Unpack) -> Node:
    return _builtin(op, [op.input], table("UnpackOptions", num=len(op.outputs), axis=op.axis))


def _pad(op: ops.Pad) -> Node:
    paddings = _operand(op, "paddings", list(zip(op.before, op.after, strict=True)))
    if op.value is None:
        return _builtin(op, [op.input, paddings], table("PadOptions"))
    return _builtin(op, [op.input, paddings, op.value], table("PadV2Options"), name="PADV2")


def _reshape(op: ops.Reshape) -> Node:
    options = table("ReshapeOptions", new_shape=op.output.shape)
    return _builtin(op, [op.input, _operand(op, "shape", op.output.shape)], options)


def _squeeze(op: ops.Squeeze) -> Node:
    return _builtin(op, [op.input], table("SqueezeOptions", squeeze_dims=op.axes))


def _transpose(op: ops.Transpose) -> Node:
    return _builtin(op, [op.input, _operand(op, "perm", op.perm)], table("TransposeOptions"))


def _slice(op: ops.Slice) -> Node:
    box = [_operand(op, "begin", op.begin), _operand(op, "size", op.size)]
    return _builtin(op, [op.input, *box], table("SliceOptions"))


def _strided_slice(op: ops.StridedSlice) -> Node:
    past_first = [i for i, (e, s) in enumerate(zip(op.end, op.strides, strict=True)) if e < 0 > s]
    options = table(
        "StridedSliceOptions",
        end_mask=sum(1 << axis for axis in past_first),
        shrink_axis_mask=sum(1 << axis for axis in op.shrink_axes),
    )
    operands = [
        _operand(op, "begin", op.begin),
        _operand(op, "end", [0 if i in past_first else e for i, e in enumerate(op.end)]),
        _operand(op, "strides", op.strides),
    ]
    return _builtin(op, [op.input, *operands], options)


# Custom and unknown operations ----------------------------------------------------------------


def _detection(op: ops.DetectionPostProcess) -> Node:
    settings = {name: getattr(op, name) for name in schema.DETECTION_OPTIONS}
    code = Code(schema.BUILTIN_OPERATORS.index("CUSTOM"), 1, schema.DETECTION)
    raw = bytes(flexbuffers.Dumps(settings))
    return Node(code, (op.boxes, op.scores, op.anchors), op.outputs, custom_options=raw)


def _opaque(op: ops.Opaque) -> Node:
    custom = op.options_type == "CUSTOM" or op.kind not in schema.BUILTIN_OPERATORS
    if custom:
        code = Code(schema.BUILTIN_OPERATORS.index("CUSTOM"), op.version, op.kind)
        return Node(code, op.inputs, op.outputs, custom_options=op.options)
    if op.kind in schema.STATEFUL:
        raise ModelError(
            f"{op.title}: keeps state in tensors of the file that a graph does not carry; must be"
            " an operation without state"
        )
    code = Code(schema.BUILTIN_OPERATORS.index(op.kind), op.version)
    options = Embedded(op.options_type, op.options) if op.options_type else None
    return Node(code, op.inputs, op.outputs, options)


_WRITERS: dict[type[Op], Callable[[Any], Node]] = {
    ops.Abs: _unary("AbsOptions"),
    ops.Add: _binary("AddOptions"),
    ops.AveragePool2D: _pool,
    ops.Concatenation: _concatenation,
    ops.Conv2D: _conv2d,
    ops.DepthwiseConv2D: _depthwise_conv2d,
    ops.Dequantize: _unary("DequantizeOptions"),
    ops.DetectionPostProcess: _detection,
    ops.FullyConnected: _fully_connected,
    ops.HardSwish: _unary("HardSwishOptions"),
    ops.LeakyRelu: _leaky_relu,
    ops.Logistic: _unary(None),
    ops.MaxPool2D: _pool,
    ops.Maximum: _pick,
    ops.Mean: _mean,
    ops.Minimum: _pick,
    ops.Mul: _binary("MulOptions"),
    ops.Opaque: _opaque,
    ops.Pack: _pack,
    ops.Pad: _pad,
    ops.Quantize: _unary("QuantizeOptions"),
    ops.Relu: _unary(None),
    ops.Relu6: _unary(None),
    ops.ReluN1To1: _unary(None),
    ops.Reshape: _reshape,
    ops.ResizeBilinear: _resize("ResizeBilinearOptions"),
    ops.ResizeNearestNeighbor: _resize("ResizeNearestNeighborOptions"),
    ops.Slice: _slice,
    ops.Softmax: _softmax,
    ops.Split: _split,
    ops.Squeeze: _squeeze,
    ops.StridedSlice: _strided_slice,
    ops.Sub: _binary("SubOptions"),
    ops.Tanh: _unary(None),
    ops.Transpose: _transpose,
    ops.TransposeConv: _transpose_conv,
    ops.Unpack: _unpack,
}
