"""Networks of a convolution and one more operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tests.frontend.onnx.netlist import image, net


def one(
    name: str, kind: str, *operands: Any, opset: int = 17, domain: str = "", **attributes: Any
) -> None:
    """Add the network of a convolution, one more operation, and a convolution."""

    def make() -> onnx.ModelProto:
        n, x = image(name, opset)
        a = n.conv(x, 8, 6, pads=[1, 1, 1, 1])
        made = n.op(kind, a, *(n.const(v) if v is not None else "" for v in operands), **attributes)
        return n.model(made)

    make.__name__ = name
    net(make)


def convolution(name: str, out: int = 8, depth: int = 6, kernel: tuple[int, ...] = (3, 3),
                bias: bool = True, then: str = "", **attributes: Any) -> None:  # fmt: skip
    """Add the network of a convolution, followed by an activation."""

    def make() -> onnx.ModelProto:
        n, x = image(name)
        a = n.conv(x, out, depth, kernel, bias=bias, **attributes)
        return n.model(n.op(then, a) if then else a)

    make.__name__ = name
    net(make)


convolution("conv_plain")
convolution("conv_no_bias", bias=False)
convolution("conv_relu", pads=[1, 1, 1, 1], then="Relu")
convolution("conv_pointwise", kernel=(1, 1), then="Relu")
convolution("conv_strided", pads=[0, 0, 1, 1], strides=[2, 2])
convolution("conv_uneven", kernel=(3, 5), pads=[1, 0, 2, 3], strides=[2, 1])
convolution("conv_same_upper", kernel=(2, 4), auto_pad="SAME_UPPER", strides=[2, 2])
convolution("conv_same_lower", kernel=(2, 4), auto_pad="SAME_LOWER", strides=[2, 2])
convolution("conv_valid", auto_pad="VALID", strides=[1, 2])
convolution("conv_dilated", pads=[2, 2, 2, 2], dilations=[2, 2])
convolution("conv_grouped", out=12, depth=2, group=3, pads=[1, 1, 1, 1])
convolution("depthwise", out=6, depth=1, group=6, pads=[1, 1, 1, 1], then="Relu")
convolution("depthwise_multiplied", out=12, depth=1, group=6, strides=[2, 2])
convolution("depthwise_dilated", out=6, depth=1, group=6, dilations=[2, 3], pads=[2, 3, 2, 3])
convolution("conv_sigmoid", then="Sigmoid")
convolution("conv_tanh", then="Tanh")
convolution("conv_hardswish", then="HardSwish")
convolution("conv_hardsigmoid", then="HardSigmoid")
convolution("conv_elu", then="Elu")
convolution("conv_softplus", then="Softplus")

one("relu6", "Clip", np.float32(0), np.float32(6))
one("clip_low", "Clip", np.float32(-0.5), None)
one("clip_high", "Clip", None, np.float32(0.75))
one("leaky_relu", "LeakyRelu", alpha=0.1)
one("prelu", "PRelu", np.linspace(0.05, 0.4, 8, dtype=np.float32).reshape(8, 1, 1))
one("max_pool", "MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
one("max_pool_ceil", "MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
one(
    "max_pool_ceil_padded",
    "MaxPool",
    kernel_shape=[3, 3],
    strides=[2, 2],
    pads=[0, 1, 1, 0],
    ceil_mode=1,
)
one("max_pool_same", "MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER")
one("max_pool_dilated", "MaxPool", kernel_shape=[2, 2], dilations=[2, 2])
one("average_pool", "AveragePool", kernel_shape=[2, 2], strides=[2, 2])
one("average_pool_outside", "AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
one(
    "average_pool_counted",
    "AveragePool",
    kernel_shape=[3, 3],
    strides=[1, 1],
    pads=[1, 1, 1, 1],
    count_include_pad=1,
)
one("average_pool_ceil", "AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
one("global_average_pool", "GlobalAveragePool")
one("global_max_pool", "GlobalMaxPool")
one("reduce_mean", "ReduceMean", axes=[2, 3], keepdims=0)
one("reduce_mean_kept", "ReduceMean", axes=[-1, -2], keepdims=1)
one("reduce_mean_channels", "ReduceMean", axes=[1], keepdims=1)
one("reduce_mean_18", "ReduceMean", np.array([2, 3]), opset=18, keepdims=1)
one("reduce_max", "ReduceMax", axes=[2, 3], keepdims=1)
one("reduce_sum", "ReduceSum", np.array([1]), keepdims=1)
one("softmax_channels", "Softmax", axis=1)
one("softmax_last", "Softmax", axis=-1)
one("softmax_11", "Softmax", axis=1, opset=11)
one("transpose", "Transpose", perm=[0, 2, 3, 1])
one("transpose_odd", "Transpose", perm=[0, 3, 1, 2])
one("flatten", "Flatten", axis=1)
one("reshape", "Reshape", np.array([1, 8, -1]))
one("reshape_zero", "Reshape", np.array([0, 0, 143]))
one("reshape_mixing", "Reshape", np.array([1, 4, 2, 143]))
one("squeeze", "Squeeze", np.array([0]))
one("unsqueeze", "Unsqueeze", np.array([2]))
one("squeeze_11", "Squeeze", axes=[0], opset=11)
one("pad_zero", "Pad", np.array([0, 0, 1, 2, 0, 0, 3, 0]))
one("pad_value", "Pad", np.array([0, 1, 1, 0, 0, 0, 0, 2]), np.float32(0.5))
one("pad_reflect", "Pad", np.array([0, 0, 1, 2, 0, 0, 3, 0]), mode="reflect")
one("pad_negative", "Pad", np.array([0, 0, -1, 0, 0, 0, -2, 0]))
one("slice", "Slice", np.array([1, 2]), np.array([9, -1]), np.array([2, 3]))
one("slice_steps", "Slice", np.array([0, 7]), np.array([9, 0]), np.array([2, 1]), np.array([2, -1]))
one("gather_scalar", "Gather", np.int64(3), axis=1)
one("gather_many", "Gather", np.array([[0, 3], [5, -1]]), axis=2)
one("tile", "Tile", np.array([1, 2, 1, 1]))
one("expand", "Expand", np.array([2, 8, 11, 13]))
one("depth_to_space", "DepthToSpace", blocksize=2)
one("depth_to_space_crd", "DepthToSpace", blocksize=2, mode="CRD")
one("resize_nearest", "Resize", None, np.array([1, 1, 2, 2], np.float32), mode="nearest",
    coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
one("resize_nearest_half", "Resize", None, None, np.array([1, 8, 22, 26]), mode="nearest")
one("resize_linear", "Resize", None, None, np.array([1, 8, 20, 30]), mode="linear")
one("resize_linear_corners", "Resize", None, None, np.array([1, 8, 21, 25]), mode="linear",
    coordinate_transformation_mode="align_corners")  # fmt: skip
one("resize_linear_asymmetric", "Resize", None, np.array([1, 1, 2, 2], np.float32), mode="linear",
    coordinate_transformation_mode="asymmetric")  # fmt: skip
one("resize_cubic", "Resize", None, np.array([1, 1, 2, 2], np.float32), mode="cubic")
one("batch_norm", "BatchNormalization", np.linspace(0.5, 2, 8, dtype=np.float32),
    np.linspace(-1, 1, 8, dtype=np.float32), np.linspace(-0.2, 0.3, 8, dtype=np.float32),
    np.linspace(0.4, 1.6, 8, dtype=np.float32))  # fmt: skip
one("instance_norm", "InstanceNormalization", np.linspace(0.5, 2, 8, dtype=np.float32),
    np.linspace(-1, 1, 8, dtype=np.float32))  # fmt: skip
one("lrn", "LRN", size=3)
one("abs", "Abs")
one("neg", "Neg")
one("exp", "Exp")
one("identity", "Identity")
one("dropout", "Dropout")
one("argmax", "ArgMax", axis=1, keepdims=1)
one("gelu", "Gelu", opset=20)
one("add_scalar", "Add", np.float32(0.25))
one("add_channels", "Add", np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8, 1, 1))
one("mul_channels", "Mul", np.linspace(-1, 1.5, 8, dtype=np.float32).reshape(8, 1, 1))
one("mul_rows", "Mul", np.linspace(-1, 1.5, 13, dtype=np.float32))
one("sub_constant", "Sub", np.float32(0.25))
one("div_constant", "Div", np.float32(3.0))
one("maximum", "Max", np.float32(0.1))
one("power", "Pow", np.float32(2))
