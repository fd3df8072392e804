"""Quantised networks as quantisers other than onnxruntime's write them, by hand."""

from __future__ import annotations

import numpy as np
import onnx

from tests.frontend.onnx.builder import Net
from tests.frontend.onnx.handmade import (
    IMAGE,
    S8,
    U8,
    begun,
    channel_weights,
    integers,
    model,
    real_bias,
    scales,
    tensor_weights,
)


@model
def pytorch_export() -> onnx.ModelProto:
    """torch's export: uint8 activations, weights per channel, the bias a float initialiser."""
    n, x = begun("pytorch_export")
    a = n.pair(x, 0.03, U8(128))
    b = n.op("Conv", a, channel_weights(n, 8, 4), real_bias(n, 8), pads=[1, 1, 1, 1])
    c = n.pair(n.op("Relu", b), 0.05, U8(0))
    d = n.op("Conv", c, channel_weights(n, 6, 8, 1), real_bias(n, 6))
    e = n.pair(d, 0.1, U8(117))
    return n.model(n.pair(n.op("GlobalAveragePool", e), 0.02, U8(120)))


@model
def tensorrt() -> onnx.ModelProto:
    """TensorRT's toolkit: int8, symmetric, float weights behind Q and DQ, a real end."""
    n, x = begun("tensorrt", 13)
    a = n.pair(x, 0.03, S8(0))
    w = n.weight(8, 4, 3, 3)
    b = n.op("Conv", a, n.pair(w, scales(n, 8), np.zeros(8, S8), axis=0), real_bias(n, 8))
    c = n.pair(n.op("Relu", b), 0.04, S8(0))
    v = n.pair(n.weight(5, 8, 1, 1), scales(n, 5), np.zeros(5, S8), axis=0)
    return n.model(n.op("Conv", c, v, real_bias(n, 5)))


@model
def zero_points_absent() -> onnx.ModelProto:
    """No zero points: uint8 activations from zero; a DequantizeLinear of int8 and int32."""
    n, x = begun("zero_points_absent")
    a = n.dequantize(n.quantize(x, 0.02, None), 0.02, None)
    bias = n.dequantize(n.const(integers(n, 8, kind=np.int32, reach=900)), 0.02 * 0.01, None)
    w = n.dequantize(n.const(integers(n, 8, 4, 3, 3)), 0.01, None)
    b = n.op("Relu", n.op("Conv", a, w, bias))
    return n.model(n.dequantize(n.quantize(b, 0.05, None), 0.05, None))


@model
def nncf() -> onnx.ModelProto:
    """NNCF: asymmetric uint8, weights per channel; a residual whose branches share one pair."""
    n, x = begun("nncf", 13)
    a = n.pair(x, 0.031, U8(119))
    b = n.pair(n.op("Relu", n.op("Conv", a, channel_weights(n, 4, 4), real_bias(n, 4),
                                 pads=[1, 1, 1, 1])), 0.05, U8(0))  # fmt: skip
    c = n.pair(n.op("Conv", b, channel_weights(n, 4, 4), real_bias(n, 4), pads=[1, 1, 1, 1]),
               0.08, U8(131))  # fmt: skip
    d = n.pair(n.op("Add", c, b), 0.09, U8(100))
    return n.model(n.op("Sigmoid", d))


@model
def quark() -> onnx.ModelProto:
    """Quark, Vitis AI: scales are powers of two, the bias too is int8 with its own."""
    n, x = begun("quark")
    a = n.pair(x, 2.0**-5, S8(0))
    bias = n.dequantize(n.const(integers(n, 8)), 2.0**-6, S8(0))
    w = n.dequantize(n.const(integers(n, 8, 4, 3, 3)), 2.0**-7, S8(0))
    b = n.pair(n.op("Relu", n.op("Conv", a, w, bias, strides=[2, 2])), 2.0**-4, S8(0))
    c = n.op("MaxPool", b, kernel_shape=[2, 2])
    return n.model(n.pair(c, 2.0**-4, S8(0)))


@model
def weights_only() -> onnx.ModelProto:
    """Q and DQ around the weights alone: the arithmetic is float."""
    n, x = begun("weights_only")
    a = n.op("Relu", n.op("Conv", x, channel_weights(n, 8, 4), real_bias(n, 8)))
    return n.model(n.op("Conv", a, tensor_weights(n, 3, 8, 1)))


@model
def activations_only() -> onnx.ModelProto:
    """Q and DQ around activations alone: the weights are float."""
    n, x = begun("activations_only")
    a = n.op("Conv", n.pair(x, 0.03, U8(128)), n.weight(8, 4, 3, 3))
    return n.model(n.pair(a, 0.05, U8(128)))


@model
def shared_dequantize() -> onnx.ModelProto:
    """One DequantizeLinear that three operations read, one of them the graph's output."""
    n, x = begun("shared_dequantize")
    a = n.pair(x, 0.03, U8(128))
    w = tensor_weights(n, 4, 4)
    b = n.op("Conv", a, w, pads=[1, 1, 1, 1])
    c = n.op("Conv", a, w, pads=[2, 2, 2, 2], dilations=[2, 2])
    d = n.op("Add", n.pair(b, 0.1, U8(120)), n.pair(c, 0.1, U8(120)))
    return n.model(n.pair(d, 0.15, U8(125)), a)


@model
def two_quantisations() -> onnx.ModelProto:
    """One real tensor that is quantised twice, each time differently."""
    n, x = begun("two_quantisations")
    a = n.op("Conv", n.pair(x, 0.03, U8(128)), tensor_weights(n, 6, 4))
    left = n.op("Relu", n.pair(a, 0.1, U8(128)))
    right = n.op("Sigmoid", n.pair(a, 0.07, U8(110)))
    return n.model(n.pair(left, 0.05, U8(0)), n.pair(right, 1 / 256, U8(0)))


@model
def quantised_ends() -> onnx.ModelProto:
    """Integer inputs and outputs: no Q at the beginning, no DQ at the end."""
    n = Net("quantised_ends")
    x = n.input("x", IMAGE, onnx.TensorProto.UINT8)
    a = n.dequantize(x, 0.03, U8(128))
    b = n.op("Conv", a, tensor_weights(n, 8, 4), strides=[2, 1])
    return n.model(n.quantize(b, 0.1, U8(125)))


@model
def integer_operations_between() -> onnx.ModelProto:
    """Operations that move data stand on the integers themselves, as tf2onnx puts them."""
    n = Net("integer_operations_between")
    x = n.input("x", (1, 9, 10, 4), onnx.TensorProto.UINT8)
    end, axis, step = (n.const(np.array([v])) for v in (9, 1, 2))
    parts = [n.op("Slice", x, n.const(np.array([s])), end, axis, step) for s in (0, 1)]
    padded = n.op("Pad", parts[1], n.const(np.array([0, 0, 0, 0, 0, 1, 0, 0])), n.const(U8(128)))
    joined = n.op("Concat", parts[0], padded, axis=3)
    a = n.dequantize(n.op("Transpose", joined, perm=[0, 3, 1, 2]), 0.03, U8(128))
    q = n.quantize(n.op("Relu", n.op("Conv", a, tensor_weights(n, 8, 8))), 0.1, U8(0))
    pooled = n.op("MaxPool", q, kernel_shape=[2, 2], strides=[2, 2])
    return n.model(n.op("Transpose", pooled, perm=[0, 2, 3, 1]))
