"""Forms of quantisation that files have, one in each network, by hand."""

from __future__ import annotations

import numpy as np
import onnx

from tests.frontend.onnx.builder import NEWEST
from tests.frontend.onnx.handmade import (
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
    """A float operation that no chip and no table has between two quantised parts."""
    n, x = begun("behind_a_float_part")
    b = n.pair(n.op("Conv", n.pair(x, 0.03, U8(128)), tensor_weights(n, 8, 4)), 0.1, U8(121))
    ones, zeros = n.const(np.ones(8, np.float32)), n.const(np.zeros(8, np.float32))
    c = n.pair(n.op("InstanceNormalization", b, ones, zeros), 1 / 48, U8(128))
    d = n.op("Conv", c, tensor_weights(n, 5, 8, 1))
    return n.model(n.pair(d, 0.05, U8(128)))


@model
def function_of_one_number() -> onnx.ModelProto:
    """Float operations of one number between two quantised tensors: a table."""
    n, x = begun("function_of_one_number")
    b = n.pair(n.op("Conv", n.pair(x, 0.03, U8(128)), tensor_weights(n, 8, 4)), 0.1, U8(121))
    c = n.op("Mul", n.op("Add", n.op("Erf", b), n.const(np.float32(1))), n.const(np.float32(0.5)))
    return n.model(n.pair(n.op("Sqrt", c), 1 / 255, U8(0)))


@model
def products_with_biases() -> onnx.ModelProto:
    """Gemm whose C is one number, a row, a column, a matrix."""
    n, x = begun("products_with_biases", shape=(3, 12))
    ends = []
    for shape in ((), (1,), (7,), (1, 7), (3, 1), (3, 7)):
        w = n.dequantize(n.const(integers(n, 12, 7)), 0.02, S8(0))
        c = n.const(n.rng.standard_normal(shape).astype(np.float32))
        ends.append(n.pair(n.op("Gemm", n.pair(x, 0.03, S8(0)), w, c), 0.1, S8(5)))
    return n.model(*ends)


@model
def unsigned_beside_channels() -> onnx.ModelProto:
    """uint8 activations and weights per channel, a float operation between: what it reads."""
    n, x = begun("unsigned_beside_channels")
    a = n.op("Conv", n.pair(x, 0.03, U8(128)), channel_weights(n, 8, 4), real_bias(n, 8))
    b = n.op("Erf", n.pair(n.op("Relu", a), 0.05, U8(0)))
    c = n.op("Conv", n.pair(b, 1 / 200, U8(3)), channel_weights(n, 5, 8, 1), real_bias(n, 5))
    return n.model(
        n.pair(n.op("Clip", c, n.const(np.float32(-1)), n.const(np.float32(2))), 0.02, U8(90))
    )


@model
def limits_of_operations() -> onnx.ModelProto:
    """Relu and Clip behind operations that have no bounds of their own."""
    n, x = begun("limits_of_operations")
    a = n.pair(x, 0.03, U8(128))
    low, high = n.const(np.float32(-0.4)), n.const(np.float32(0.7))
    b = n.pair(n.op("Relu", n.op("Concat", a, a, axis=1)), 0.03, U8(128))
    c = n.pair(n.op("Clip", n.op("Mul", a, a), low, high), 0.02, U8(100))
    d = n.pair(n.op("Clip", n.op("Add", a, a), low, high), 0.02, U8(100))
    e = n.pair(n.op("Clip", n.op("MaxPool", a, kernel_shape=[2, 2]), low, high), 0.02, U8(100))
    return n.model(b, c, d, e)
