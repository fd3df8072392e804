"""Example graphs of every operation: one table for all tests that go through the operations.

Builder, verification, text form, JSON, reader, writer, TFLite's reference kernels, the CPU driver
and the NPU drivers are all tested with these rows. A class without a row fails `test_price.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from teflon.ir import Array, DType, Graph, Op, Quantization, Value, ops
from teflon.ir.builder import Builder

SHAPE = (1, 6, 5, 4)
IMAGE = {"u8": (0.5, 128), "i8": (0.5, -3), "i16": (0.3, 0)}
"""Scale and zero point of the image by element type; the others have none."""

Make = Callable[[Builder, Value], Value | tuple[Value, ...]]


@dataclass(frozen=True)
class Row:
    """How a class is added to a graph with one image, for some element types of the image.

    `forms` names them, each with the version of the operator that TFLite's converter would write
    for it: "u8:1 i8:2".
    """

    kind: type[Op]
    forms: str
    make: Make
    title: str = ""
    shape: tuple[int, ...] = SHAPE
    tolerance: float = 0.0  # of float32 results, relative: sums in another order


@dataclass(frozen=True)
class Example:
    """A row for one element type: a small graph with an operation of the class in it."""

    row: Row
    dtype: str
    version: int

    @property
    def name(self) -> str:
        title = f"_{self.row.title}" if self.row.title else ""
        suffix = f"_{self.dtype}" if " " in self.row.forms else ""
        return f"{self.row.kind.mnemonic}{title}{suffix}"

    def graph(self) -> Graph:
        """Return the graph; always the same."""
        b = Builder(self.name)
        made = self.row.make(b, image(b, self.dtype, self.row.shape))
        b.output(*(made if isinstance(made, tuple) else (made,)))
        return b.build()

    def op(self) -> Any:
        """Return the first operation of the class."""
        return next(op for op in self.graph().ops if isinstance(op, self.row.kind))


def image(b: Builder, dtype: str = "u8", shape: tuple[int, ...] = SHAPE, name: str = "x") -> Value:
    """Add an input."""
    return b.input(name, dtype, shape, *IMAGE.get(dtype, ()))


def another(b: Builder, x: Value, shape: tuple[int, ...] = ()) -> Value:
    """Add an input of another one's type."""
    return image(b, x.type.dtype.value, shape or x.shape, name="y")


def random(shape: tuple[int, ...], dtype: str = "u8", seed: int = 1) -> Array:
    """Return reproducible values over an element type's range; small ones of int32, as biases."""
    rng = np.random.default_rng(seed)
    if dtype == "f32":
        return rng.standard_normal(shape).astype(np.float32)
    kind = DType(dtype)
    low, high = kind.range if kind is not DType.INT32 else (-500, 500)
    return rng.integers(low, high, shape, kind.numpy, endpoint=True)


def weights(x: Value, *shape: int) -> Array:
    """Return weights of an image's element type."""
    return random(shape, x.type.dtype.value)


def bias(x: Value, count: int = 8) -> Array:
    """Return what is added to an image's sums."""
    return random((count,), "f32" if x.type.dtype is DType.FLOAT32 else "i32")


def scaled(x: Value) -> dict[str, Any]:
    """Return how weights are quantised per tensor."""
    return {"weight_scale": 0.02, "weight_zero_point": 128 if x.type.dtype is DType.UINT8 else 0}


PER_AXIS: dict[str, Any] = {"weight_scale": [0.01 * (i + 1) for i in range(8)]}

NANS = np.full(SHAPE, np.nan, np.float32)
"""An image of NaN; the first columns have a few other numbers in them."""

NANS[0, 2:5, 0] = -np.inf
NANS[0, 1:4:2, 1] = np.array([[-np.inf], [1]])
NANS[0, ::4, 2] = np.array([[1], [np.inf]])

# Rows ----------------------------------------------------------------------------------------


def _convolutions() -> Iterator[Row]:
    both = "u8:1 i8:3"
    yield Row(
        ops.Conv2D, both, lambda b, x: b.conv2d(
            x, weights(x, 8, 3, 2, 4), bias(x), stride=(2, 1), padding="same", activation="relu6",
            **scaled(x),
        ), "same_stride",
    )  # fmt: skip
    yield Row(
        ops.Conv2D, "u8:2 i8:3", lambda b, x: b.conv2d(
            x, weights(x, 8, 3, 2, 4), bias(x), padding="valid", dilation=(2, 3), **scaled(x)
        ), "valid_dilated",
    )  # fmt: skip
    yield Row(
        ops.Conv2D, both, lambda b, x: b.conv2d(x, weights(x, 8, 3, 2, 4), **scaled(x)),
        "without_bias",
    )  # fmt: skip
    yield Row(
        ops.Conv2D, "i8:3", lambda b, x: b.conv2d(x, weights(x, 8, 3, 3, 4), bias(x), **PER_AXIS),
        "per_axis",
    )  # fmt: skip
    yield Row(
        ops.Conv2D, "f32:1", lambda b, x: b.conv2d(x, weights(x, 8, 3, 3, 4), bias(x)), "float",
        tolerance=1e-5,
    )  # fmt: skip
    yield Row(
        ops.DepthwiseConv2D, both, lambda b, x: b.depthwise_conv2d(
            x, weights(x, 1, 3, 3, 8), bias(x), stride=2, padding="same", activation="relu",
            **scaled(x),
        ),
    )  # fmt: skip
    yield Row(
        ops.DepthwiseConv2D, "i8:3", lambda b, x: b.depthwise_conv2d(
            x, weights(x, 1, 3, 3, 8), bias(x), dilation=2, **PER_AXIS
        ), "per_axis_dilated",
    )  # fmt: skip
    yield Row(
        ops.TransposeConv, "u8:3 i8:3", lambda b, x: b.transpose_conv(
            x, weights(x, 8, 3, 3, 4), bias(x), size=(12, 10), stride=2, padding="same", **scaled(x)
        ),
    )  # fmt: skip
    yield Row(
        ops.TransposeConv, "i8:2", lambda b, x: b.transpose_conv(
            x, weights(x, 8, 3, 3, 4), size=(8, 7), padding="valid", **PER_AXIS
        ), "per_axis",
    )  # fmt: skip
    yield Row(
        ops.FullyConnected, "u8:1 i8:4", lambda b, x: b.fully_connected(
            x, weights(x, 8, 120), bias(x), activation="relu", **scaled(x)
        ),
    )  # fmt: skip
    yield Row(
        ops.FullyConnected, "u8:6 i8:6", lambda b, x: b.fully_connected(
            x, weights(x, 8, 4), keep_num_dims=True, **scaled(x)
        ), "keep_num_dims",
    )  # fmt: skip


def _some(x: Value, least: int = 1) -> Array:
    """Return a constant of an image's element type, of numbers from `least` on."""
    dtype = x.type.dtype.value
    return np.asarray(np.maximum(random(x.shape, dtype), np.array(least, DType(dtype).numpy)))


def _real(kind: type[Op], b: Builder, x: Value) -> Value:
    return b.op(kind, input=x)


def _positive(kind: type[Op], b: Builder, x: Value) -> Value:
    return b.op(kind, input=b.abs(x))


def _reduced(kind: type[Op], b: Builder, x: Value, **how: Any) -> Value:
    return b.op(kind, input=x, **how)


def _quotient(b: Builder, x: Value) -> Value:
    """Divide by a constant without zeros, some of them negative."""
    divisor = _some(x) * (-1) ** np.arange(x.shape[-1])
    if x.type.dtype in (DType.FLOAT32, DType.INT32):
        return b.op(ops.Div, a=x, b=divisor.astype(x.type.dtype.numpy))
    zero = 0 if x.type.dtype is DType.INT8 else 100
    steps = divisor.astype(x.type.dtype.numpy)
    steps[steps == zero] += 1
    return b.op(ops.Div, a=x, b=b.constant(steps, 0.4, zero), scale=0.02, zero_point=zero + 9)


def _batched(b: Builder, x: Value, columns: bool) -> Value:
    """Multiply matrices of the image by those of another one."""
    y = another(b, x, (1, 6, 7, 4) if columns else (6, 5, 7))
    how: dict[str, Any] = {} if x.type.dtype is DType.FLOAT32 else {"scale": 40.0}
    return b.op(ops.BatchMatMul, a=x, b=y, adj_a=not columns, adj_b=columns, **how)


def _svdf(b: Builder, x: Value, rank: int = 2, activation: str = "relu") -> Value:
    """Keep the last 5 values of 6 filters, in int16 where the image is quantised."""
    feature = weights(x, 6, 7)
    if x.type.dtype is DType.FLOAT32:
        time = random((6, 5), "f32", 2)
        return b.svdf(x, feature, time, bias(x, 6), rank=rank, activation=activation)
    wide = b.constant(random((6, 5), "i16", 2), 2.0**-15)
    return b.svdf(
        x, b.constant(feature, 0.02), wide, bias(x, 6 // rank), rank=rank, activation=activation,
        state=Quantization.per_tensor(0.003), scale=0.7, zero_point=-9,
    )  # fmt: skip


def _gathered(b: Builder, x: Value, axis: int, batch: int) -> Value:
    """Gather along an axis where another operation says."""
    places = b.op(ops.ArgMax, input=x, axis=axis, dtype="i32")
    return b.op(ops.Gather, input=x, positions=places, axis=axis, batch_dims=batch)


BOTH = "u8:1 i8:2"
PLACES = np.array([[2, 0], [1, 3], [1, 1]], np.int32)

ROWS: tuple[Row, ...] = (
    *_convolutions(),
    # Element by element
    Row(ops.Add, BOTH, lambda b, x: b.add(x, another(b, x), activation="relu")),
    Row(ops.Add, BOTH, lambda b, x: b.add(x, weights(x, 1, 1, 1, 4)), "constant"),
    Row(ops.Add, "i16:3", lambda b, x: b.add(x, another(b, x), scale=0.5, zero_point=0), "wide"),
    Row(ops.Sub, BOTH, lambda b, x: b.sub(x, another(b, x), activation="relu6")),
    Row(ops.Mul, BOTH, lambda b, x: b.mul(x, another(b, x))),
    Row(ops.Mul, "u8:1", lambda b, x: b.mul(x, b.constant(weights(x, 4), 0.01, 128)), "constant"),
    Row(ops.Maximum, BOTH, lambda b, x: b.maximum(x, another(b, x))),
    Row(ops.Minimum, BOTH, lambda b, x: b.minimum(x, another(b, x))),
    Row(ops.Div, "u8:1 i8:1 i32:1 f32:1", _quotient),
    Row(ops.FloorDiv, "i8:3 i16:3 i32:1 f32:2",
        lambda b, x: b.op(ops.FloorDiv, a=x, b=_some(x, 2))),
    Row(ops.SquaredDifference, "i8:2", lambda b, x: b.op(
        ops.SquaredDifference, a=x, b=b.constant(weights(x, 1, 1, 5, 1), 0.4, 9), scale=9.0
    )),
    Row(ops.SquaredDifference, "i32:1 f32:1",
        lambda b, x: b.op(ops.SquaredDifference, a=x, b=another(b, x)), "plain"),
    # Products of computed matrices
    Row(ops.BatchMatMul, "i8:2", partial(_batched, columns=True)),
    Row(ops.BatchMatMul, "i8:2", partial(_batched, columns=False), "broadcast"),
    Row(ops.BatchMatMul, "f32:1", partial(_batched, columns=True), "float", tolerance=1e-5),
    # Layers with a memory
    Row(ops.Svdf, "i8:3", _svdf, shape=(2, 7)),
    Row(ops.Svdf, "f32:1", partial(_svdf, rank=1, activation="relu6"), "float", shape=(2, 7),
        tolerance=1e-5),
    # Activations
    Row(ops.Abs, "i8:2", lambda b, x: b.abs(x)),
    Row(ops.Relu, "u8:2 i8:2", lambda b, x: b.relu(x)),
    Row(ops.Relu6, BOTH, lambda b, x: b.relu6(x)),
    Row(ops.ReluN1To1, "u8:1 i8:1", lambda b, x: b.relu_n1_to_1(x)),
    Row(ops.LeakyRelu, BOTH, lambda b, x: b.leaky_relu(x, 0.3)),
    Row(ops.HardSwish, "u8:1 i8:1", lambda b, x: b.hard_swish(x)),
    Row(ops.Logistic, BOTH, lambda b, x: b.logistic(x)),
    Row(ops.Tanh, BOTH, lambda b, x: b.tanh(x)),
    Row(ops.Softmax, BOTH, lambda b, x: b.softmax(x, 0.7)),
    Row(ops.Relu0To1, "u8:1 i8:1", lambda b, x: b.op(ops.Relu0To1, input=x)),
    Row(ops.Prelu, "u8:1 i8:1", lambda b, x: b.op(
        ops.Prelu, input=x, alpha=b.constant(weights(x, 5, 4), 0.02, 7), scale=0.6
    )),
    Row(ops.Prelu, "f32:1", lambda b, x: b.op(ops.Prelu, input=x, alpha=weights(x, 1, 1, 4)),
        "float"),
    # Functions
    Row(ops.Elu, "i8:1", lambda b, x: b.op(ops.Elu, input=x, scale=0.3, zero_point=-100)),
    Row(ops.Gelu, "u8:2 i8:2", lambda b, x: b.op(ops.Gelu, input=x, scale=0.25)),
    Row(ops.Gelu, "u8:2 i8:2",
        lambda b, x: b.op(ops.Gelu, input=x, approximate=True, scale=0.02), "approximate"),
    Row(ops.Exp, "i8:2",
        lambda b, x: b.op(ops.Exp, input=b.relu_n1_to_1(x), scale=0.01, zero_point=-128)),
    Row(ops.Log, "i8:2", lambda b, x: b.op(ops.Log, input=x, scale=0.03)),
    Row(ops.Neg, "i8:1 i32:1 i64:1 f32:1", lambda b, x: b.op(ops.Neg, input=x)),
    Row(ops.Rsqrt, "i8:2", lambda b, x: b.op(
        ops.Rsqrt, input=b.abs(x, scale=0.6, zero_point=-128), scale=0.01, zero_point=-128
    )),
    *(Row(kind, "f32:1", partial(_real, kind), "float", tolerance=2e-6)
      for kind in (ops.Elu, ops.Exp, ops.Gelu)),
    Row(ops.Square, "f32:1", partial(_real, ops.Square)),
    *(Row(kind, "f32:1", partial(_positive, kind), "float", tolerance=tolerance)
      for kind, tolerance in ((ops.Log, 2e-6), (ops.Sqrt, 0.0), (ops.Rsqrt, 0.0))),
    # Windows, axes, images
    Row(ops.AveragePool2D, BOTH,
        lambda b, x: b.average_pool2d(x, (3, 2), stride=(2, 1), activation="relu")),
    Row(ops.MaxPool2D, BOTH, lambda b, x: b.max_pool2d(x, 2, stride=2, padding="valid")),
    Row(ops.Mean, BOTH, lambda b, x: b.mean(x, (1, 2), keep_dims=True)),
    Row(ops.Mean, "u8:1", lambda b, x: b.mean(x, (0, 1, 2, 3)), "to_scalar"),
    Row(ops.ArgMax, "u8:1 i8:2 i32:1 f32:1",
        lambda b, x: b.op(ops.ArgMax, input=x, axis=3, dtype="i32")),
    Row(ops.ArgMax, "i8:2", lambda b, x: b.op(ops.ArgMax, input=x, axis=1, dtype="i64"), "rows"),
    Row(ops.ArgMax, "f32:1", lambda b, x: b.op(
        ops.ArgMax, input=b.concatenation([x, b.constant(NANS)], 0), axis=1, dtype="i32"
    ), "nan"),
    Row(ops.ArgMin, "u8:1 i8:2 i32:1 f32:1",
        lambda b, x: b.op(ops.ArgMin, input=x, axis=2, dtype="i32")),
    Row(ops.ArgMin, "f32:1", lambda b, x: b.op(
        ops.ArgMin, input=b.concatenation([x, b.constant(-NANS)], 0), axis=1, dtype="i32"
    ), "nan"),
    Row(ops.Sum, "u8:1",
        lambda b, x: b.op(ops.Sum, input=x, axes=(1, 2), keep_dims=True, scale=9.0)),
    *(Row(kind, "u8:1 i8:2", partial(_reduced, kind, axes=(1, 2), keep_dims=True))
      for kind in (ops.ReduceMax, ops.ReduceMin)),
    *(Row(kind, "i32:1 i64:1 f32:1", partial(_reduced, kind, axes=(0, 3)), "plain")
      for kind in (ops.Sum, ops.ReduceMax, ops.ReduceMin)),
    Row(ops.ResizeNearestNeighbor, "u8:3 i8:3",
        lambda b, x: b.resize_nearest_neighbor(x, (9, 11), half_pixel_centers=True)),
    Row(ops.ResizeBilinear, BOTH,
        lambda b, x: b.resize_bilinear(x, (9, 11), align_corners=True)),
    Row(ops.ResizeBilinear, "u8:3 i8:3",
        lambda b, x: b.resize_bilinear(x, (9, 11), half_pixel_centers=True), "centers"),
    # Element types
    Row(ops.Quantize, "u8:1", lambda b, x: b.quantize(x, "i8", scale=0.6, zero_point=-5), "again"),
    Row(ops.Quantize, "f32:1", lambda b, x: b.quantize(x, "u8", scale=0.03, zero_point=100)),
    Row(ops.Dequantize, BOTH, lambda b, x: b.dequantize(x)),
    Row(ops.Cast, "u8:1 i8:3 i16:1 i32:1 i64:1 bool:1",
        lambda b, x: b.op(ops.Cast, input=x, dtype="f32")),
    Row(ops.Cast, "u8:3 i16:3 i32:3 f32:3", lambda b, x: b.op(ops.Cast, input=x, dtype="i8"),
        "narrow"),
    # Joining
    Row(ops.Concatenation, "u8:1", lambda b, x: b.concatenation([x, another(b, x), x], axis=2)),
    Row(ops.Split, "u8:1", lambda b, x: b.split(x, 3, axis=1)),
    Row(ops.SplitV, "u8:1 i8:2", lambda b, x: b.split_v(x, (1, 3, 1), axis=2)),
    Row(ops.Pack, "i8:2", lambda b, x: b.pack([x, another(b, x)], axis=2)),
    Row(ops.Unpack, "i8:2", lambda b, x: b.unpack(x, axis=3)),
    # Shaping
    Row(ops.Pad, "u8:1", lambda b, x: b.pad(x, (0, 1, 2, 0), (0, 2, 0, 3))),
    Row(ops.Pad, "i8:2", lambda b, x: b.pad(x, (0, 1, 2, 0), (0, 2, 0, 3), np.array(7, np.int8)),
        "value"),
    Row(ops.MirrorPad, "u8:1 i8:2 f32:1", lambda b, x: b.op(
        ops.MirrorPad, input=x, before=(0, 1, 2, 3), after=(0, 5, 4, 0)
    )),
    Row(ops.MirrorPad, "u8:1 i8:2", lambda b, x: b.op(
        ops.MirrorPad, input=x, before=(0, 6, 2, 4), after=(0, 5, 5, 0), reflect=False
    ), "symmetric"),
    Row(ops.Tile, "u8:1 i8:3 i32:1", lambda b, x: b.op(ops.Tile, input=x, multiples=(2, 1, 3, 2))),
    Row(ops.ExpandDims, "u8:1 f32:1", lambda b, x: b.op(ops.ExpandDims, input=x, axis=2)),
    Row(ops.SpaceToDepth, "u8:1 i8:2 i32:1",
        lambda b, x: b.op(ops.SpaceToDepth, input=x, block=2), shape=(2, 6, 4, 3)),
    Row(ops.DepthToSpace, "u8:1 i8:2 i64:1",
        lambda b, x: b.op(ops.DepthToSpace, input=x, block=2), shape=(2, 3, 5, 12)),
    Row(ops.SpaceToBatch, BOTH, lambda b, x: b.op(
        ops.SpaceToBatch, input=x, block=(2, 3), before=(1, 0), after=(1, 4)
    ), shape=(2, 6, 5, 3)),
    Row(ops.SpaceToBatch, "u8:3", lambda b, x: b.op(
        ops.SpaceToBatch, input=x, block=(4,), before=(1,), after=(1,)
    ), "rows", shape=(2, 6, 3)),
    Row(ops.BatchToSpace, BOTH, lambda b, x: b.op(
        ops.BatchToSpace, input=x, block=(2, 3), before=(1, 0), after=(2, 4)
    ), shape=(12, 4, 3, 5)),
    Row(ops.Reshape, "u8:1", lambda b, x: b.reshape(x, (2, 60))),
    Row(ops.Squeeze, "u8:1", lambda b, x: b.squeeze(x, (0,))),
    Row(ops.Squeeze, "u8:1", lambda b, x: b.squeeze(x), "all"),
    Row(ops.Transpose, "i8:2", lambda b, x: b.transpose(x, (0, 3, 1, 2))),
    # Slicing
    Row(ops.Slice, "u8:1", lambda b, x: b.slice(x, (0, 1, 2, 0), (1, 3, 2, 4))),
    Row(ops.StridedSlice, "u8:1",
        lambda b, x: b.strided_slice(x, (0, 1, 0, 3), (1, 6, 5, 4), (1, 2, 3, 1), (0, 3))),
    Row(ops.StridedSlice, "u8:1",
        lambda b, x: b.strided_slice(x, (0, 5, 3, 0), (1, -1, 0, 4), (1, -2, -1, 1)), "backwards"),
    Row(ops.Gather, "u8:1 i8:2 i16:4 i32:1 i64:1 f32:1 bool:3",
        lambda b, x: b.op(ops.Gather, input=x, positions=PLACES, axis=1)),
    Row(ops.Gather, "u8:6",
        lambda b, x: b.op(ops.Gather, input=x, positions=PLACES.astype("i2"), axis=3), "by_i16"),
    Row(ops.Gather, "u8:1",
        lambda b, x: b.op(ops.Gather, input=x, positions=np.array(3), axis=2), "one"),
    *(Row(ops.Gather, "u8:5", partial(_gathered, axis=axis, batch=batch), f"{axis}_batch_{batch}")
      for axis, batch in ((2, 1), (2, 2), (3, 1), (3, 3))),
    Row(ops.GatherNd, "u8:1 i8:1 i16:3 i32:1 f32:1 bool:5", lambda b, x: b.op(
        ops.GatherNd, input=x, positions=np.array([[[0, 5], [0, 0]], [[0, 3], [0, 2]]], np.int32)
    )),
    Row(ops.GatherNd, "u8:4", lambda b, x: b.op(
        ops.GatherNd, input=x, positions=np.array([[0, 5, 4, 3], [0, 0, 1, 2]], np.int16)
    ), "by_i16"),
    # Detection
    Row(ops.DetectionPostProcess, "f32:1", lambda b, x: b.detection_post_process(
        x, another(b, x, (1, 12, 3)), np.abs(random((12, 4), "f32")), max_detections=5,
        max_classes_per_detection=1, detections_per_class=50, use_regular_nms=True,
        nms_score_threshold=0.125, nms_iou_threshold=0.5, num_classes=2, y_scale=10.0,
        x_scale=10.0, h_scale=5.0, w_scale=5.0,
    ), shape=(1, 12, 4)),
)  # fmt: skip
"""Every row; the first of a class is its sample."""


def _examples() -> Iterator[Example]:
    for row in ROWS:
        for form in row.forms.split():
            dtype, _, version = form.partition(":")
            yield Example(row, dtype, int(version))


EXAMPLES: dict[str, Example] = {example.name: example for example in _examples()}
"""Every example by its name, as "conv2d_same_stride_u8"."""

FIRST: dict[type[Op], Example] = {
    example.row.kind: example for example in reversed(EXAMPLES.values())
}
"""The first example of each class."""
