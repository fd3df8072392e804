"""Quantised networks as quantisers other than onnxruntime's write them, by hand.

`MODELS` maps a name to a function that returns the model; `OPAQUE` names those of which a part must
stay opaque, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from teflon.ir.types import Array
from tests.frontend.onnx.builder import NEWEST, Net

Maker = Callable[[], onnx.ModelProto]
MODELS: dict[str, Maker] = {}
IMAGE = (1, 4, 9, 10)

U8, S8 = np.uint8, np.int8


def model(function: Maker) -> Maker:
    """Add a maker to `MODELS`."""
    MODELS[function.__name__] = function
    return function


def begun(name: str, opset: int = 17, shape: tuple[int, ...] = IMAGE) -> tuple[Net, str]:
    n = Net(name, opset, seed=len(name))
    return n, n.input("x", shape)


def integers(n: Net, *shape: int, kind: Any = S8, reach: int = 127) -> Array:
    low = 0 if kind is U8 else -reach
    return n.rng.integers(low, reach, shape, endpoint=True).astype(kind)


def scales(n: Net, count: int, middle: float = 0.01) -> Array:
    return (middle * n.rng.uniform(0.5, 2.0, count)).astype(np.float32)


def channel_weights(n: Net, out: int, depth: int, kernel: int = 3, zeros: bool = True) -> str:
    """Add int8 weights and their DequantizeLinear along axis 0."""
    w = n.const(integers(n, out, depth, kernel, kernel))
    return n.dequantize(w, scales(n, out), np.zeros(out, S8) if zeros else None, axis=0)


def tensor_weights(n: Net, out: int, depth: int, kernel: int = 3, scale: float = 0.01) -> str:
    return n.dequantize(n.const(integers(n, out, depth, kernel, kernel)), scale, S8(0))


def real_bias(n: Net, out: int) -> str:
    return n.const(n.rng.standard_normal(out).astype(np.float32))


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


@model
def activation_behind_the_pair() -> onnx.ModelProto:
    """Relu with a pair before it and one behind it: an operation of its own."""
    n, x = begun("activation_behind_the_pair")
    b = n.pair(n.op("Conv", n.pair(x, 0.03, U8(128)), tensor_weights(n, 8, 4)), 0.1, U8(121))
    c = n.pair(n.op("Relu", b), 0.1, U8(121))
    return n.model(
        n.pair(n.op("Clip", c, n.const(np.float32(0)), n.const(np.float32(6))), 0.03, U8(3))
    )


@model
def clip_inside_range() -> onnx.ModelProto:
    """Clip whose bounds lie inside the output's range, and one that the range makes void."""
    n, x = begun("clip_inside_range")
    a = n.op("Conv", n.pair(x, 0.03, S8(0)), tensor_weights(n, 8, 4))
    b = n.pair(n.op("Clip", a, n.const(np.float32(-1)), n.const(np.float32(1.5))), 0.02, S8(3))
    c = n.op("Conv", b, tensor_weights(n, 8, 8, 1))
    d = n.op("Clip", c, n.const(np.float32(0)), n.const(np.float32(6)))
    return n.model(n.pair(d, 6 / 255, S8(-128)))


@model
def no_end() -> onnx.ModelProto:
    """A convolution and a product whose results stay real."""
    n, x = begun("no_end")
    a = n.pair(x, 0.03, U8(128))
    b = n.op("Conv", a, tensor_weights(n, 8, 4), real_bias(n, 8))
    flat = n.pair(
        n.op("Flatten", n.op("GlobalAveragePool", n.pair(b, 0.1, U8(128)))), 0.05, U8(120)
    )
    v = n.dequantize(n.const(integers(n, 8, 5)), 0.02, S8(0))
    return n.model(b, n.op("Add", n.op("MatMul", flat, v), real_bias(n, 5)))


@model
def asymmetric_weights() -> onnx.ModelProto:
    """int8 weights with a zero point, per tensor."""
    n, x = begun("asymmetric_weights")
    w = n.dequantize(n.const(integers(n, 8, 4, 3, 3)), 0.01, S8(13))
    a = n.op("Conv", n.pair(x, 0.03, S8(-5)), w, real_bias(n, 8))
    return n.model(n.pair(a, 0.1, S8(7)))


@model
def asymmetric_channels() -> onnx.ModelProto:
    """int8 weights with a zero point for each channel."""
    n, x = begun("asymmetric_channels")
    w = n.dequantize(
        n.const(integers(n, 8, 4, 3, 3)), scales(n, 8), integers(n, 8, reach=20), axis=0
    )
    a = n.op("Conv", n.pair(x, 0.03, S8(-5)), w, real_bias(n, 8))
    return n.model(n.pair(a, 0.1, S8(7)))


@model
def unsigned_weights() -> onnx.ModelProto:
    """uint8 activations, uint8 weights, an int32 bias."""
    n, x = begun("unsigned_weights")
    w = n.dequantize(n.const(integers(n, 8, 4, 3, 3, kind=U8, reach=255)), 0.01, U8(127))
    bias = n.dequantize(n.const(integers(n, 8, kind=np.int32, reach=900)), 0.03 * 0.01, np.int32(0))
    a = n.op("Conv", n.pair(x, 0.03, U8(128)), w, bias)
    return n.model(n.pair(a, 0.1, U8(130)))


@model
def mixed_signs() -> onnx.ModelProto:
    """int8 in, uint8 out, and the other way round."""
    n, x = begun("mixed_signs")
    a = n.op("Relu", n.op("Conv", n.pair(x, 0.03, S8(0)), tensor_weights(n, 8, 4)))
    b = n.op("Conv", n.pair(a, 0.05, U8(0)), tensor_weights(n, 8, 8, 1))
    return n.model(n.pair(b, 0.2, S8(-3)))


@model
def bias_of_another_scale() -> onnx.ModelProto:
    """An int32 bias whose scale is not the product of the others."""
    n, x = begun("bias_of_another_scale")
    bias = n.dequantize(n.const(integers(n, 8, kind=np.int32, reach=90)), 0.01, np.int32(0))
    a = n.op("Conv", n.pair(x, 0.03, U8(128)), tensor_weights(n, 8, 4), bias)
    return n.model(n.pair(a, 0.1, U8(130)))


@model
def weight_axis_of_matmul() -> onnx.ModelProto:
    """Per channel along the last axis of MatMul's and, negative, Gemm's weights."""
    n, x = begun("weight_axis_of_matmul", shape=(3, 12))
    w = n.dequantize(n.const(integers(n, 12, 9)), scales(n, 9), np.zeros(9, S8), axis=1)
    a = n.pair(n.op("MatMul", n.pair(x, 0.03, S8(0)), w), 0.1, S8(0))
    v = n.dequantize(n.const(integers(n, 9, 7)), scales(n, 7), np.zeros(7, S8), axis=-1)
    return n.model(n.pair(n.op("Gemm", a, v, real_bias(n, 7)), 0.1, S8(5)))


@model
def wrong_weight_axis() -> onnx.ModelProto:
    """Per channel along the input channels: nothing integer can be made of it."""
    n, x = begun("wrong_weight_axis")
    w = n.dequantize(n.const(integers(n, 8, 4, 3, 3)), scales(n, 4), np.zeros(4, S8), axis=1)
    return n.model(n.pair(n.op("Conv", n.pair(x, 0.03, S8(0)), w), 0.1, S8(5)))


@model
def sixteen_bits() -> onnx.ModelProto:
    """int16 activations (opset 21), int8 weights."""
    n, x = begun("sixteen_bits", 21)
    a = n.op("Conv", n.pair(x, 0.0002, np.int16(0)), tensor_weights(n, 8, 4), real_bias(n, 8))
    return n.model(n.pair(a, 0.0005, np.int16(0)))


@model
def four_bits() -> onnx.ModelProto:
    """int4 weights in blocks (opset 21)."""
    n, x = begun("four_bits", 21, (2, 32))
    w = onnx.helper.make_tensor("w4", onnx.TensorProto.INT4, (32, 8), n.rng.integers(-8, 8, 256))
    n.initializers.append(w)
    block = n.dequantize("w4", n.rng.uniform(0.01, 0.02, (2, 8)), None, axis=0, block_size=16)
    return n.model(n.op("MatMul", x, block))


@model
def newest_opset() -> onnx.ModelProto:
    """What the newest opset may add: Q with output_dtype and without zero point."""
    n, x = begun("newest_opset", NEWEST)
    q = n.op("QuantizeLinear", x, n.const(np.float32(0.03)), output_dtype=onnx.TensorProto.INT8)
    a = n.op("Conv", n.dequantize(q, 0.03, None), tensor_weights(n, 8, 4), real_bias(n, 8))
    q = n.op("QuantizeLinear", a, n.const(np.float32(0.1)), output_dtype=onnx.TensorProto.INT8)
    return n.model(n.dequantize(q, 0.1, None))


@model
def constants_in_nodes() -> onnx.ModelProto:
    """Scales and zero points that Constant nodes and an Identity make; a scale given as [1]."""
    n, x = begun("constants_in_nodes")
    scale = n.op("Constant", value_float=0.03)
    zero = n.op("Identity", n.const(U8(128)))
    a = n.op("DequantizeLinear", n.op("QuantizeLinear", x, scale, zero), scale, zero)
    w = n.dequantize(n.const(integers(n, 8, 4, 3, 3)), [0.01], np.zeros(1, S8))
    b = n.op("Conv", a, w)
    return n.model(n.pair(b, [0.1], np.full(1, 128, U8)))


@model
def concat_of_different_scales() -> onnx.ModelProto:
    n, x = begun("concat_of_different_scales")
    a = n.pair(x, 0.03, U8(128))
    b = n.pair(n.op("Conv", a, tensor_weights(n, 4, 4, 1)), 0.1, U8(120))
    return n.model(n.pair(n.op("Concat", a, b, a, axis=1), 0.08, U8(128)))


@model
def pool_of_different_scales() -> onnx.ModelProto:
    """Poolings and moves whose output has another scale than their input."""
    n, x = begun("pool_of_different_scales")
    a = n.pair(x, 0.03, U8(128))
    b = n.pair(n.op("MaxPool", a, kernel_shape=[2, 2]), 0.02, U8(110))
    c = n.pair(n.op("AveragePool", b, kernel_shape=[2, 2]), 0.015, U8(100))
    d = n.pair(n.op("Transpose", c, perm=[0, 2, 3, 1]), 0.02, U8(128))
    return n.model(n.pair(n.op("Reshape", d, n.const(np.array([1, -1]))), 0.01, U8(128)))


@model
def requantised() -> onnx.ModelProto:
    """DQ directly behind Q, and Q directly behind DQ of another scale."""
    n, x = begun("requantised")
    a = n.pair(n.pair(x, 0.03, U8(128)), 0.05, S8(10))
    return n.model(n.pair(n.op("Conv", a, tensor_weights(n, 8, 4)), 0.1, S8(0)))


@model
def add_of_constant() -> onnx.ModelProto:
    """Add and Mul with quantised constants, of one value and of one for each channel."""
    n, x = begun("add_of_constant")
    a = n.pair(x, 0.03, U8(128))
    c = n.dequantize(n.const(integers(n, 1, 4, 1, 1, kind=U8, reach=255)), 0.01, U8(100))
    b = n.pair(n.op("Add", a, c), 0.04, U8(128))
    k = n.dequantize(n.const(U8(200)), 0.01, U8(0))
    return n.model(n.pair(n.op("Mul", k, b), 0.08, U8(128)))


@model
def behind_a_float_part() -> onnx.ModelProto:
    """A float operation that no chip has between two quantised parts."""
    n, x = begun("behind_a_float_part")
    b = n.pair(n.op("Conv", n.pair(x, 0.03, U8(128)), tensor_weights(n, 8, 4)), 0.1, U8(121))
    c = n.op("Erf", b)
    d = n.op("Conv", n.pair(c, 1 / 128, U8(128)), tensor_weights(n, 5, 8, 1))
    return n.model(n.pair(d, 0.05, U8(128)))
