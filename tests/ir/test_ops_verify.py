"""Verification: a bad example of each rule gives the right sentence, a good one gives none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.errors import UnsupportedOperation
from teflon.ir import DType, Op, Padding, Quantization, TensorType, Value, ops
from teflon.ir.types import Activation, Array
from tests.ir.examples import FIRST
from tests.ir.helpers import operations, values


def t(
    name: str, text: str, scale: float | None = 0.5, zero: int = 0, data: Array | None = None
) -> Value:
    """Return a value from a type in words: `u8 1 8 8 3`."""
    dtype, *sizes = text.split()
    shape = tuple(int(s) for s in sizes)
    quantization = None if scale is None else Quantization.per_tensor(scale, zero)
    return Value(name, TensorType(DType(dtype), shape, quantization), data)


def per_axis(name: str, text: str, scales: int, axis: int) -> Value:
    value = t(name, text)
    quantization = Quantization((0.5,) * scales, (0,) * scales, axis)
    return dataclasses.replace(
        value, type=dataclasses.replace(value.type, quantization=quantization)
    )


X = t("x", "i8 1 8 8 4")
LOGISTIC = t("y", "i8 1 8 8 4", 1 / 256, -128)
CONV = ops.Conv2D(input=X, weights=t("w", "i8 6 3 3 4"), output=t("y", "i8 1 6 6 6"))
UCONV = ops.Conv2D(
    input=t("x", "u8 1 8 8 4"), weights=t("w", "u8 6 3 3 4"), bias=t("b", "i32 6", 0.25),
    output=t("y", "u8 1 6 6 6"),
)  # fmt: skip
DEPTHWISE = ops.DepthwiseConv2D(input=X, weights=t("w", "i8 1 3 3 8"), output=t("y", "i8 1 6 6 8"))
TRANSPOSED = ops.TransposeConv(
    input=X, weights=t("w", "i8 6 2 2 4"), output=t("y", "i8 1 16 16 6"), stride=(2, 2)
)
DENSE = ops.FullyConnected(input=X, weights=t("w", "i8 5 64"), output=t("y", "i8 4 5"))
ADD = ops.Add(a=X, b=t("b", "i8 4"), output=t("y", "i8 1 8 8 4"))
MAXIMUM = ops.Maximum(a=X, b=X, output=t("y", "i8 1 8 8 4"))
POOL = ops.AveragePool2D(input=X, output=t("y", "i8 1 4 4 4"), kernel=(2, 2), stride=(2, 2))
MEAN = ops.Mean(input=X, output=t("y", "i8 1 4"), axes=(1, 2))
CONCAT = ops.Concatenation(inputs=(X, X), output=t("y", "i8 1 8 8 8"), axis=3)
SPLIT = ops.Split(input=X, outputs=(t("p", "i8 1 4 8 4"), t("q", "i8 1 4 8 4")), axis=1)
PACK = ops.Pack(inputs=(X, X), output=t("y", "i8 2 1 8 8 4"), axis=0)
UNPACK = ops.Unpack(input=t("x", "i8 2 3"), outputs=(t("p", "i8 3"), t("q", "i8 3")), axis=0)
PAD = ops.Pad(input=X, output=t("y", "i8 1 9 8 4"), before=(0, 1, 0, 0), after=(0, 0, 0, 0))
RESHAPE = ops.Reshape(input=X, output=t("y", "i8 64 4"))
SQUEEZE = ops.Squeeze(input=X, output=t("y", "i8 8 8 4"), axes=(0,))
TRANSPOSE = ops.Transpose(input=X, output=t("y", "i8 1 4 8 8"), perm=(0, 3, 1, 2))
SLICE = ops.Slice(input=X, output=t("y", "i8 1 2 8 4"), begin=(0, 3, 0, 0), size=(1, 2, 8, 4))
STRIDED = ops.StridedSlice(
    input=t("x", "i8 4 6"), output=t("y", "i8 2"), begin=(0, 1), end=(4, 2), strides=(2, 1),
    shrink_axes=(1,),
)  # fmt: skip
RESIZE = ops.ResizeBilinear(input=X, output=t("y", "i8 1 3 5 4"))
QUANTIZE = ops.Quantize(input=X, output=t("y", "u8 1 8 8 4"))
DEQUANTIZE = ops.Dequantize(input=X, output=t("y", "f32 1 8 8 4", None))
SOFTMAX = ops.Softmax(input=X, output=LOGISTIC)
DETECTION = ops.DetectionPostProcess(
    boxes=t("b", "f32 1 9 4", None), scores=t("s", "f32 1 9 3", None),
    anchors=t("a", "f32 9 4", None),
    outputs=(t("o", "f32 1 5 4", None), t("c", "f32 1 5", None), t("p", "f32 1 5", None),
             t("n", "f32 1", None)),
    max_detections=5, max_classes_per_detection=1, nms_score_threshold=0.5, nms_iou_threshold=0.5,
    num_classes=2, y_scale=10.0, x_scale=10.0, h_scale=5.0, w_scale=5.0,
)  # fmt: skip

ELEMENTWISE = (
    [cls(input=X, output=LOGISTIC) for cls in (ops.Relu, ops.Relu6, ops.ReluN1To1, ops.HardSwish,
                                               ops.Logistic, ops.Tanh, ops.Abs)]
    + [ops.LeakyRelu(input=X, output=LOGISTIC, alpha=0.5)]
    + [cls(a=X, b=X, output=LOGISTIC) for cls in (ops.Sub, ops.Mul, ops.Minimum)]
    + [ops.MaxPool2D(input=X, output=t("y", "i8 1 7 7 4"), kernel=(2, 2)),
       ops.ResizeNearestNeighbor(input=X, output=t("y", "i8 1 3 5 4")),
       ops.Opaque(inputs=(X, None), outputs=(LOGISTIC,), kind="GATHER_ND")]
)  # fmt: skip
GOOD = [
    CONV, UCONV, DEPTHWISE, TRANSPOSED, DENSE, ADD, MAXIMUM, POOL, MEAN, CONCAT, SPLIT, PACK,
    UNPACK, PAD, RESHAPE, SQUEEZE, TRANSPOSE, SLICE, STRIDED, RESIZE, QUANTIZE, DEQUANTIZE,
    SOFTMAX, DETECTION, *ELEMENTWISE,
]  # fmt: skip


@pytest.mark.parametrize("op", GOOD, ids=lambda op: op.mnemonic)
def test_good_examples(op: Op) -> None:
    assert op.verify() == []


BAD: list[tuple[Op, dict[str, Any], str]] = [
    (CONV, {"input": t("x", "i8 8 8 4")}, "'x' is i8[8, 8, 4], must have 4 dimensions"),
    (CONV, {"weights": t("w", "i8 6 3 3 3")},
     "'w' is i8[6, 3, 3, 3], must have input channels that divide 4 and outputs that are a"
     " multiple of the groups"),
    (CONV, {"weights": t("w", "i8 6 9 3 4")},
     "'x' is i8[1, 8, 8, 4], must not be smaller than the kernel (9, 3)"),
    (CONV, {"output": t("y", "i8 1 8 8 6")},
     "result 'y' is i8[1, 8, 8, 6], must be i8[1, 6, 6, 6]"),
    (CONV, {"bias": t("b", "i32 5")}, "'b' is i32[5], must have the shape [6]"),
    (CONV, {"bias": t("b", "f32 6", None)}, "'b' is f32[6], must be i32"),
    (CONV, {"output": t("y", "i8 1 6 6 6", 0.0)},
     "'y' has scale 0, must be above 0 and finite"),
    (CONV, {"weights": t("w", "i8 6 3 3 4", -1.0)},
     "'w' has scale -1, must be above 0 and finite"),
    (DEQUANTIZE, {"input": t("x", "i8 1 8 8 4", float("inf"))},
     "'x' has scale inf, must be above 0 and finite"),
    (SOFTMAX, {"beta": 0.0}, "beta is 0, must be above 0 and finite"),
    (ops.LeakyRelu(input=X, output=LOGISTIC, alpha=0.5), {"alpha": float("nan")},
     "alpha is nan, must be finite"),
    (CONV, {"stride": (0, 1)}, "stride is [0, 1], must be 1 or more"),
    (CONV, {"padding": Padding(-1, 1, 0, 0)}, "padding is [-1, 1, 0, 0], must be 0 or more"),
    (CONV, {"clamp": (5, 3)}, "clamp is (5, 3), must be ordered and within -128..127"),
    (CONV, {"clamp": (0, 9), "activation": Activation.RELU},
     "activation is relu, must be none beside a clamp"),
    (CONV, {"input": t("x", "i8 1 8 8 4", None)}, "'x' has no quantisation, must have a scale"),
    (CONV, {"weights": per_axis("w", "i8 6 3 3 4", 6, 3)},
     "'w' is quantised along axis 3, must be 0"),
    (CONV, {"weights": per_axis("w", "i8 6 3 3 4", 4, 0)}, "'w' has 4 scales, must have 6"),
    (CONV, {"input": per_axis("x", "i8 1 8 8 4", 4, 3)},
     "'x' is quantised per axis, must be per tensor"),
    (UCONV, {"bias": t("b", "i32 6", 0.5)},
     "bias has scale 0.5, must have 0.25 (input times weight scale)"),
    (DEPTHWISE, {"weights": t("w", "i8 1 3 3 6")},
     "'w' is i8[1, 3, 3, 6], must be [1, height, width, a multiple of 4 channels]"),
    (TRANSPOSED, {"output": t("y", "i8 1 12 16 6")},
     "result 'y' is [12, 16], must be a size whose forward convolution yields [8, 8]"
     " (it yields [6, 8])"),
    (TRANSPOSED, {"weights": t("w", "i8 6 2 2 3")},
     "'w' is i8[6, 2, 2, 3], must have 4 input channels"),
    (DENSE, {"weights": t("w", "i8 5 60")}, "'x' is i8[1, 8, 8, 4], must have a multiple of 60"),
    (DENSE, {"keep_num_dims": True}, "'x' is i8[1, 8, 8, 4], must end in 64"),
    (ADD, {"b": t("b", "i8 3")}, "'x' is i8[1, 8, 8, 4] and 'b' is i8[3], must broadcast"),
    (ADD, {"b": t("b", "u8 4")}, "'b' is u8, must be i8 as 'x' is"),
    (POOL, {"kernel": (0, 2)}, "kernel is [0, 2], must be 1 or more"),
    (POOL, {"padding": Padding(2, 0, 0, 0)},
     "padding is Padding(top=2, bottom=0, left=0, right=0), must be smaller than the kernel"
     " (2, 2)"),
    (MEAN, {"axes": (1, 4)}, "axis is 4, must be within 0..3"),
    (MEAN, {"axes": (1, 1)}, "axes are [1, 1], must be named once each"),
    (CONCAT, {"inputs": ()}, "has no inputs, must have one or more"),
    (CONCAT, {"inputs": (X, t("z", "i8 1 8 7 4"))},
     "'z' is i8[1, 8, 7, 4], must differ from 'x' is i8[1, 8, 8, 4] along axis 3 only"),
    (CONCAT, {"inputs": (X, t("z", "i8 1 8 8 4", 0.25))},
     "'z' has scale 0.25 and zero point 0, must have 0.5 and 0 as 'y' has"),
    (CONCAT, {"activation": Activation.RELU}, "activation is relu, must be none"),
    (SPLIT, {"outputs": (t("p", "i8 1 4 8 4"),) * 3},
     "axis 1 has size 8, must divide into 3 parts"),
    (PACK, {"inputs": (X, t("z", "i8 8 8 4"))},
     "'z' is i8[8, 8, 4], must have the shape [1, 8, 8, 4]"),
    (UNPACK, {"outputs": (t("p", "i8 3"),)}, "has 1 results, must have 2"),
    (PAD, {"before": (0, 1)}, "before is [0, 1], must have 4 sizes"),
    (PAD, {"after": (0, -1, 0, 0)}, "after is [0, -1, 0, 0], must be 0 or more"),
    (PAD, {"value": t("v", "i8 2")}, "'v' is i8[2], must be one number"),
    (RESHAPE, {"output": t("y", "i8 63 4")},
     "result 'y' is [63, 4], must have the 256 elements of [1, 8, 8, 4]"),
    (SQUEEZE, {"axes": (1,)}, "axis 1 has size 8, must have size 1"),
    (TRANSPOSE, {"perm": (0, 1, 1, 2)}, "perm is [0, 1, 1, 2], must name each of 4 axes once"),
    (SLICE, {"begin": (0, 7, 0, 0)},
     "begin [0, 7, 0, 0] and size [1, 2, 8, 4], must lie inside [1, 8, 8, 4]"),
    (SLICE, {"begin": (0,)}, "begin is [0] and size [1, 2, 8, 4], must have 4 numbers each"),
    (STRIDED, {"strides": (0, 1)}, "strides are [0, 1], must not be 0"),
    (STRIDED, {"end": (4, 3)}, "shrunk axis 1 has size 2, must have size 1"),
    (STRIDED, {"end": (6, 2)}, "axis 0 takes 0:6:2, must lie within 0..3"),
    (STRIDED, {"begin": (0,)}, "begin is [0], must have 2 numbers"),
    (RESIZE, {"align_corners": True, "half_pixel_centers": True},
     "align_corners and half_pixel_centers are both set, must not be"),
    (QUANTIZE, {"output": t("y", "u8 1 8 8 4", None)},
     "'y' has no quantisation, must have a scale"),
    (QUANTIZE, {"output": t("y", "f32 1 8 8 4", None)},
     "'y' is f32[1, 8, 8, 4], must be of a quantised type"),
    (DEQUANTIZE, {"input": t("x", "i8 1 8 8 4", None)},
     "'x' has no quantisation, must have a scale"),
    (SOFTMAX, {"output": t("y", "i8 1 8 8 4")},
     "'y' has scale 0.5 and zero point 0, must have 1/256 and -128"),
    (ops.Logistic(input=X, output=LOGISTIC), {"output": t("y", "i8 1 8 8 4")},
     "'y' has scale 0.5, must have 1/256"),
    (ops.Relu(input=X, output=LOGISTIC), {"output": t("y", "u8 1 8 8 4")},
     "result 'y' is u8[1, 8, 8, 4], must be i8[1, 8, 8, 4]"),
    (FIRST[ops.ArgMax].op(), {"axis": 4}, "axis is 4, must be within 0..3"),
    (FIRST[ops.ArgMax].op(), {"input": t("x", "i16 1 6 5 4")},
     "'x' is i16, must be f32, u8, i8, i32 or bool"),
    (FIRST[ops.ArgMax].op(), {"input": t("x", "u8 1 6 5 0")},
     "axis 3 has size 0, must have elements"),
    (FIRST[ops.ArgMax].op(), {"output": t("y", "f32 1 6 5", None)},
     "'y' is f32, must be i32 or i64"),
    (FIRST[ops.Cast].op(), {"input": t("x", "u64 1 6 5 4")},
     "'x' is u64, must be u8, i8, i16, i32, f32, bool, i64, u16, u32, f16, f64 or c64"),
    (FIRST[ops.Gather].op(), {"axis": 4}, "axis is 4, must be within 0..3"),
    (FIRST[ops.Gather].op(), {"batch_dims": 2}, "batch_dims is 2, must be within 0..1"),
    (FIRST[ops.Gather].op(), {"batch_dims": 1}, "'constant' is i32[3, 2], must begin with [1]"),
    (FIRST[ops.Gather].op(), {"positions": t("p", "u8 4", None)},
     "'p' is u8, must be i16, i32 or i64"),
    (FIRST[ops.Prelu].op(), {"alpha": t("a", "u8 1 1 3")},
     "'x' is u8[1, 6, 5, 4] and 'a' is u8[1, 1, 3], must broadcast"),
    (FIRST[ops.Prelu].op(), {"alpha": t("a", "u8 2 1 1 4")},
     "'a' is u8[2, 1, 1, 4], must broadcast to [1, 6, 5, 4]"),
    (FIRST[ops.Prelu].op(), {"alpha": t("a", "i8 4")}, "'a' is i8, must be u8 as 'x' is"),
    (FIRST[ops.BatchMatMul].op(), {"b": t("b", "i8 1 6 7 5")},
     "'x' is i8[1, 6, 5, 4] and 'b' is i8[1, 6, 7, 5] have inner sizes 4 and 5, must have one"),
    (FIRST[ops.BatchMatMul].op(), {"b": t("b", "i8 1 5 7 4")},
     "'x' is i8[1, 6, 5, 4] and 'b' is i8[1, 5, 7, 4], must broadcast before their last two axes"),
    (FIRST[ops.BatchMatMul].op(), {"b": t("b", "i8 4")},
     "'b' is i8[4], must have 2 dimensions or more"),
    (FIRST[ops.SpaceToDepth].op(), {"block": 3},
     "block is 3, must be 1 or more and divide height 6 and width 4"),
    (FIRST[ops.SpaceToDepth].op(), {"input": t("x", "i16 2 6 4 3")},
     "'x' is i16, must be f32, u8, i8, i32 or i64"),
    (FIRST[ops.DepthToSpace].op(), {"block": 0},
     "block is 0, must be 1 or more and its square divide 12 channels"),
    (FIRST[ops.SpaceToBatch].op(), {"block": (2,)}, "block is [2], must have 2 sizes"),
    (FIRST[ops.SpaceToBatch].op(), {"block": (0, 3)}, "block is [0, 3], must be 1 or more"),
    (FIRST[ops.SpaceToBatch].op(), {"block": (3, 3)},
     "block is [3, 3], must divide the padded size [8, 9]"),
    (FIRST[ops.SpaceToBatch].op(), {"before": (-1, 0)}, "before is [-1, 0], must be 0 or more"),
    (FIRST[ops.SpaceToBatch].op(), {"input": t("x", "u8 6 5")},
     "'x' is u8[6, 5], must have 3 or 4 dimensions"),
    (FIRST[ops.BatchToSpace].op(), {"block": (5, 1)},
     "'x' is u8[12, 4, 3, 5], must have a multiple of 5"),
    (FIRST[ops.BatchToSpace].op(), {"before": (6, 0)},
     "before [6, 0] and after [2, 4] must leave something of [8, 9]"),
    (FIRST[ops.Sum].op(), {"axes": (4,)}, "axis is 4, must be within 0..3"),
    (FIRST[ops.ReduceMax].op(), {"output": t("y", "u8 1 1 1 4", 0.25)},
     "'y' has scale 0.25 and zero point 0, must have 0.5 and 128 as 'x' has"),
    (FIRST[ops.MirrorPad].op(), {"before": (0, 6, 0, 0)}, "axis 1 grows by 6, must by at most 5"),
    (FIRST[ops.MirrorPad].op(), {"after": (0,)}, "after is [0], must have 4 sizes"),
    (FIRST[ops.Tile].op(), {"multiples": (1, -2, 1, 1)},
     "multiples is [1, -2, 1, 1], must be 0 or more"),
    (FIRST[ops.Tile].op(), {"multiples": (1,)}, "multiples are [1], must be 4 numbers"),
    (FIRST[ops.ExpandDims].op(), {"axis": 5}, "axis is 5, must be within 0..4"),
    (FIRST[ops.SplitV].op(), {"sizes": (1, 3, 2)},
     "sizes are [1, 3, 2], must be 0 or more and add up to 5"),
    (FIRST[ops.GatherNd].op(), {"positions": t("p", "i32 2 5", None)},
     "'p' is i32[2, 5], must end in at most 4"),
    (FIRST[ops.GatherNd].op(), {"positions": t("p", "i32", None)},
     "'p' is i32[], must have 1 dimension or more"),
    (FIRST[ops.GatherNd].op(), {"positions": t("p", "u8 2 2", None)},
     "'p' is u8, must be i16, i32 or i64"),
    (DETECTION, {"num_classes": 4}, "num_classes is 4, must be 3 or one less"),
    (DETECTION, {"anchors": t("a", "f32 8 4", None)}, "'a' is f32[8, 4], must be [9, 4]"),
    (DETECTION, {"nms_iou_threshold": 0.0}, "nms_iou_threshold is 0, must be in (0, 1]"),
    (DETECTION, {"h_scale": 0.0}, "a box scale is not positive, must be above 0"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "change", "sentence"), BAD, ids=lambda x: x.mnemonic if isinstance(x, Op) else None
)
def test_bad_examples(op: Op, change: dict[str, Any], sentence: str) -> None:
    assert sentence in dataclasses.replace(op, **change).verify()


def zeros(op: Op) -> list[Array | None]:
    return [None if v is None else np.zeros(v.shape, v.type.dtype.numpy) for v in op.operands]


UNCOMPUTED = [
    (dataclasses.replace(UCONV, weights=per_axis("w", "u8 6 3 3 4", 6, 0), bias=None),
     "CONV_2D 'y': weights 'w' are quantised per axis, must be per tensor"),
    (dataclasses.replace(CONV, weights=t("w", "f32 6 3 3 4", None)),
     "CONV_2D 'y': no kernel for element types i8, f32, i8"),
    (dataclasses.replace(CONV, activation=Activation.TANH),
     "CONV_2D 'y': fused activation is tanh, must be a clamp"),
    (ops.Relu(input=t("x", "i64 4", None), output=t("y", "i64 4", None)),
     "RELU 'y': no kernel for element types i64"),
    (ops.HardSwish(input=t("x", "i8 4", 90.0), output=t("y", "i8 4", 0.25)),
     "HARD_SWISH 'y': output scale is below 1/128 of the input's, must be larger"),
    (ops.Softmax(input=t("x", "i8 4", 1e-9), output=t("y", "i8 4", 1 / 256, -128)),
     "SOFTMAX 'y': beta times input scale is 1e-09, must be above 2**-26"),
    (ops.Elu(input=t("x", "u8 4"), output=t("y", "u8 4")),
     "ELU 'y': no kernel for element types u8"),
    (ops.Rsqrt(input=t("x", "i8 4", 0.5, 3), output=t("y", "i8 4")),
     "RSQRT 'y': an input is -3 steps, must be 0 or more"),
    (ops.Div(a=X, b=X, output=LOGISTIC), "DIV 'y': a divisor is 0, must be another number"),
    (ops.FloorDiv(a=t("a", "i32 4", None), b=t("b", "i32 4", None), output=t("y", "i32 4", None)),
     "FLOOR_DIV 'y': a divisor is 0, must be another number"),
    (ops.FloorDiv(a=t("a", "u8 4"), b=t("b", "u8 4"), output=t("y", "u8 4")),
     "FLOOR_DIV 'y': no kernel for element types u8, u8"),
    (ops.SquaredDifference(a=t("a", "u8 4"), b=t("b", "u8 4"), output=t("y", "u8 4")),
     "SQUARED_DIFFERENCE 'y': no kernel for element types u8, u8"),
    (ops.BatchMatMul(a=t("a", "u8 1 1"), b=t("b", "u8 1 1"), output=t("y", "u8 1 1")),
     "BATCH_MATMUL 'y': no kernel for element types u8, u8"),
    (ops.Opaque(inputs=(X,), outputs=(LOGISTIC,), kind="GATHER_ND"),
     "GATHER_ND 'y': there is no kernel for this operation"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "sentence"), UNCOMPUTED, ids=lambda x: getattr(x, "mnemonic", ""))
def test_what_is_not_computed(op: Op, sentence: str) -> None:
    with pytest.raises(UnsupportedOperation) as caught:
        op.evaluate(*zeros(op))
    assert str(caught.value) == sentence


MACS = [(CONV, 36 * 6 * 36), (DEPTHWISE, 36 * 8 * 9), (TRANSPOSED, 64 * 6 * 4 * 4),
        (DENSE, 4 * 5 * 64), (FIRST[ops.BatchMatMul].op(), 6 * 5 * 7 * 4), (ADD, 0),
        (POOL, 0)]  # fmt: skip


@pytest.mark.parametrize(("op", "macs"), MACS, ids=lambda x: getattr(x, "mnemonic", ""))
def test_macs(op: Op, macs: int) -> None:
    assert op.macs == macs


@settings(max_examples=300)
@given(st.data())
def test_verification_never_raises(data: st.DataObject) -> None:
    """Whatever a file says: sentences, no exception; and positive shapes from `infer`."""
    known = data.draw(st.lists(values(), min_size=1, max_size=3))
    op = data.draw(operations(known))
    assert all(isinstance(problem, str) for problem in op.verify())
    assert op.macs >= 0
