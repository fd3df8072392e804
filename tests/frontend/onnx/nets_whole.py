"""Networks of several operations, and forms that only whole files have."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.frontend.onnx.builder import Net
from tests.frontend.onnx.netlist import IMAGE, image, net


@net
def residual() -> onnx.ModelProto:
    n, x = image("residual")
    a = n.op("Relu", n.conv(x, 8, 6, pads=[1, 1, 1, 1]))
    b = n.conv(a, 8, 8, pads=[1, 1, 1, 1])
    return n.model(n.op("Relu", n.op("Add", b, a)))


@net
def two_inputs() -> onnx.ModelProto:
    n, x = image("two_inputs")
    y = n.input("y", IMAGE)
    return n.model(n.op("Mul", n.op("Add", x, y), n.op("Sub", x, y)))


@net
def add_broadcast() -> onnx.ModelProto:
    n, x = image("add_broadcast")
    y = n.input("y", (6, 1, 1))
    return n.model(n.op("Add", n.conv(x, 6, 6), y))


@net
def squeeze_excite() -> onnx.ModelProto:
    n, x = image("squeeze_excite")
    a = n.conv(x, 8, 6, pads=[1, 1, 1, 1])
    pooled = n.op("Relu", n.conv(n.op("GlobalAveragePool", a), 4, 8, (1, 1)))
    gate = n.op("HardSigmoid", n.conv(pooled, 8, 4, (1, 1)), alpha=1 / 6, beta=0.5)
    return n.model(n.op("Mul", a, gate))


@net
def swish() -> onnx.ModelProto:
    n, x = image("swish")
    a = n.conv(x, 8, 6)
    return n.model(n.op("Mul", a, n.op("Sigmoid", a)))


@net
def hardswish_written_out() -> onnx.ModelProto:
    n, x = image("hardswish_written_out", 13)
    a = n.conv(x, 8, 6)
    shifted = n.op("Clip", n.op("Add", a, n.const(np.float32(3))), n.const(np.float32(0)),
                   n.const(np.float32(6)))  # fmt: skip
    return n.model(n.op("Div", n.op("Mul", a, shifted), n.const(np.float32(6))))


@net
def concat_channels() -> onnx.ModelProto:
    n, x = image("concat_channels")
    parts = [n.conv(x, 3, 6, (1, 1)), n.op("Relu", n.conv(x, 5, 6, (1, 1)))]
    return n.model(n.conv(n.op("Concat", *parts, axis=1), 4, 8, (1, 1)))


@net
def concat_width() -> onnx.ModelProto:
    n, x = image("concat_width")
    a = n.conv(x, 4, 6, (1, 1))
    return n.model(n.op("Concat", a, n.op("Sigmoid", a), a, axis=-1))


@net
def split() -> onnx.ModelProto:
    n, x = image("split")
    a, b = n.op("Split", n.conv(x, 8, 6), n.const(np.array([3, 5])), outs=2, axis=1)
    return n.model(n.conv(a, 4, 3, (1, 1)), n.op("Relu", b))


@net
def shuffle() -> onnx.ModelProto:
    """The channel shuffle of ShuffleNet."""
    n, x = image("shuffle")
    a = n.op("Reshape", n.conv(x, 8, 6), n.const(np.array([1, 2, 4, 9, 11])))
    b = n.op("Transpose", a, perm=[0, 2, 1, 3, 4])
    c = n.op("Reshape", b, n.const(np.array([1, 8, 9, 11])))
    return n.model(n.conv(c, 4, 8, (1, 1)))


@net
def classifier() -> onnx.ModelProto:
    n, x = image("classifier", 13)
    a = n.op("MaxPool", n.op("Relu", n.conv(x, 8, 6)), kernel_shape=[2, 2], strides=[2, 2])
    flat = n.op("Flatten", a)
    hidden = n.op(
        "Relu", n.op("Gemm", flat, n.weight(16, 8 * 4 * 5, scale=0.1), n.weight(16), transB=1)
    )
    logits = n.op("Gemm", hidden, n.weight(16, 10), n.weight(10))
    return n.model(n.op("Softmax", logits, axis=-1))


@net
def gemm_scaled() -> onnx.ModelProto:
    n = Net("gemm_scaled")
    x = n.input("x", (3, 12))
    return n.model(n.op("Gemm", x, n.weight(12, 5), n.weight(5), alpha=0.5, beta=2.0))


@net
def gemm_transposed() -> onnx.ModelProto:
    n = Net("gemm_transposed")
    x = n.input("x", (12, 3))
    return n.model(n.op("Gemm", x, n.weight(12, 5), n.weight(3, 5), transA=1))


@net
def matmul() -> onnx.ModelProto:
    n = Net("matmul")
    x = n.input("x", (2, 7, 12))
    a = n.op("Add", n.op("MatMul", x, n.weight(12, 9)), n.weight(9))
    return n.model(n.op("Relu", a))


@net
def matmul_of_two() -> onnx.ModelProto:
    n = Net("matmul_of_two")
    x, y = n.input("x", (2, 3, 7, 12)), n.input("y", (2, 3, 12, 5))
    return n.model(n.op("MatMul", x, y))


@net
def attention() -> onnx.ModelProto:
    n = Net("attention")
    x = n.input("x", (1, 9, 16))
    q, k, v = (n.op("Add", n.op("MatMul", x, n.weight(16, 16)), n.weight(16)) for _ in range(3))
    scores = n.op(
        "Mul", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 2, 1])), n.const(np.float32(0.25))
    )
    return n.model(n.op("MatMul", n.op("Softmax", scores, axis=-1), v))


@net
def layer_norm() -> onnx.ModelProto:
    n = Net("layer_norm")
    x = n.input("x", (1, 9, 16))
    a = n.op("LayerNormalization", x, n.weight(16), n.weight(16), axis=-1)
    return n.model(n.op("MatMul", a, n.weight(16, 8)))


def _transposed(name: str, group: int = 1, **attributes: Any) -> None:
    def make() -> onnx.ModelProto:
        n, x = image(name)
        a = n.conv(x, 8, 6, (1, 1))
        w = n.weight(8, 5 if group == 1 else 1, 3, 3)
        return n.model(n.op("ConvTranspose", a, w, n.weight(5 if group == 1 else 8),
                                group=group, **attributes))  # fmt: skip

    make.__name__ = name
    net(make)


_transposed("conv_transpose", strides=[2, 2])
_transposed("conv_transpose_padded", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
_transposed("conv_transpose_shaped", strides=[2, 2], output_shape=[22, 26])
_transposed("conv_transpose_same", strides=[2, 2], auto_pad="SAME_UPPER")
_transposed("conv_transpose_depthwise", group=8, strides=[2, 2])


@net
def conv_1d() -> onnx.ModelProto:
    n = Net("conv_1d")
    x = n.input("x", (1, 6, 40))
    a = n.op("Relu", n.conv(x, 8, 6, (5,), pads=[2, 2], strides=[2]))
    return n.model(n.op("MaxPool", a, kernel_shape=[2], strides=[2]))


@net
def conv_3d() -> onnx.ModelProto:
    n = Net("conv_3d")
    x = n.input("x", (1, 2, 5, 6, 7))
    return n.model(n.op("Relu", n.conv(x, 4, 2, (3, 3, 3))))


@net
def shared_weights() -> onnx.ModelProto:
    """One initialiser that two convolutions read, and one that a reshape reads too."""
    n, x = image("shared_weights")
    w, b = n.weight(6, 6, 3, 3), n.weight(6)
    a = n.op("Conv", x, w, b, pads=[1, 1, 1, 1])
    return n.model(n.op("Conv", a, w, b, pads=[1, 1, 1, 1]))


@net
def batch() -> onnx.ModelProto:
    n, x = image("batch", shape=(3, 6, 11, 13))
    return n.model(n.op("Relu", n.conv(x, 8, 6)))


@net
def constant_nodes() -> onnx.ModelProto:
    """Weights and shapes as Constant nodes, and behind Identity."""
    n, x = image("constant_nodes")
    w = n.rng.standard_normal((4, 6, 3, 3)).astype(np.float32)
    weights = n.op("Constant", value=onnx.numpy_helper.from_array(w))
    a = n.op("Conv", x, n.op("Identity", weights))
    return n.model(n.op("Reshape", a, n.op("Constant", value_ints=[1, -1])))


@net
def shape_arithmetic() -> onnx.ModelProto:
    """A reshape as PyTorch writes it: its shape is computed from Shape, Gather and Concat."""
    n, x = image("shape_arithmetic")
    a = n.conv(x, 8, 6)
    first = n.op("Gather", n.op("Shape", a), n.const(np.int64(0)), axis=0)
    shape = n.op(
        "Concat", n.op("Unsqueeze", first, n.const(np.array([0]))), n.const(np.array([-1])), axis=0
    )
    return n.model(
        n.op("Gemm", n.op("Reshape", a, shape), n.weight(10, 8 * 9 * 11, scale=0.1), transB=1)
    )


@net
def dynamic_batch() -> onnx.ModelProto:
    n, x = image("dynamic_batch", shape=("batch", 6, 11, 13))
    a = n.op("Relu", n.conv(x, 8, 6))
    return n.model(n.op("Flatten", n.op("GlobalAveragePool", a)))


@net
def dynamic_size() -> onnx.ModelProto:
    n, x = image("dynamic_size", shape=("batch", 6, None, "width"))
    return n.model(n.op("Relu", n.conv(x, 8, 6, strides=[2, 2], pads=[1, 1, 1, 1])))


@net
def unused_parts() -> onnx.ModelProto:
    """A node nobody needs, an initialiser nobody reads, an output that is an input."""
    n, x = image("unused_parts")
    a = n.conv(x, 4, 6)
    n.op("Relu", a)
    n.weight(3, 3)
    return n.model(n.op("Relu", a))


@net
def twice_an_output() -> onnx.ModelProto:
    """An intermediate tensor that is an output too."""
    n, x = image("twice_an_output")
    a = n.op("Relu", n.conv(x, 4, 6))
    return n.model(a, n.conv(a, 4, 4))


@net
def condition() -> onnx.ModelProto:
    """An If whose branches read a tensor from outside."""
    n, x = image("condition")
    a = n.conv(x, 4, 6, (1, 1))
    flag = n.input("flag", (), onnx.TensorProto.BOOL)
    branches = {}
    for word, kind in (("then_branch", "Relu"), ("else_branch", "Neg")):
        out = helper.make_tensor_value_info(f"{word}_out", onnx.TensorProto.FLOAT, (1, 4, 11, 13))
        node = helper.make_node(kind, [a], [f"{word}_out"])
        branches[word] = helper.make_graph([node], word, [], [out])
    return n.model(n.conv(n.op("If", flag, **branches), 4, 4))
