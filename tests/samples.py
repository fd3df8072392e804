"""One small graph for every operation, made with the builder; random inputs for any graph."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from teflon.ir import Array, DType, Graph, TensorType, Value
from teflon.ir.builder import Builder

SHAPE = (1, 6, 5, 4)


def _weights(*shape: int) -> Array:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _bias(count: int) -> Array:
    return np.arange(count, dtype=np.int32) * 100


def _detection(b: Builder, x: Value) -> Value:
    boxes = b.reshape(x, (1, 30, 4))
    scores = b.logistic(b.slice(boxes, (0, 0, 0), (1, 30, 3)))
    outputs = b.detection_post_process(
        boxes, scores, np.full((30, 4), 0.5, np.float32), max_detections=5,
        max_classes_per_detection=1, nms_score_threshold=0.1, nms_iou_threshold=0.5, num_classes=2,
        y_scale=10.0, x_scale=10.0, h_scale=5.0, w_scale=5.0,
    )  # fmt: skip
    b.output(*outputs)
    return outputs[0]


SAMPLES: dict[str, Callable[[Builder, Value], Value]] = {
    "Abs": lambda b, x: b.abs(b.quantize(x, "i8")),
    "Add": lambda b, x: b.add(x, x, activation="relu6"),
    "AveragePool2D": lambda b, x: b.average_pool2d(x, 3, stride=2),
    "Concatenation": lambda b, x: b.concatenation([x, x], axis=-1),
    "Conv2D": lambda b, x: b.conv2d(x, _weights(8, 3, 3, 4), _bias(8), stride=(2, 1)),
    "DepthwiseConv2D": lambda b, x: b.depthwise_conv2d(
        x, _weights(1, 3, 3, 8), _bias(8), padding=(1, 0, 2, 0), activation="relu"
    ),
    "Dequantize": lambda b, x: b.dequantize(x),
    "DetectionPostProcess": _detection,
    "FullyConnected": lambda b, x: b.fully_connected(x, _weights(7, 120), _bias(7)),
    "HardSwish": lambda b, x: b.hard_swish(x),
    "LeakyRelu": lambda b, x: b.leaky_relu(x, 0.1),
    "Logistic": lambda b, x: b.logistic(x),
    "MaxPool2D": lambda b, x: b.max_pool2d(x, (2, 3), padding="valid"),
    "Maximum": lambda b, x: b.maximum(x, np.array(128)),
    "Mean": lambda b, x: b.mean(x, keep_dims=True),
    "Minimum": lambda b, x: b.minimum(x, x),
    "Mul": lambda b, x: b.mul(x, b.constant(_weights(4), 0.01, 128)),
    "Pack": lambda b, x: b.pack([x, x], axis=1),
    "Pad": lambda b, x: b.pad(x, (0, 1, 2, 0), (0, 0, 1, 1)),
    "Quantize": lambda b, x: b.quantize(x, "i8", scale=0.1, zero_point=-3),
    "Relu": lambda b, x: b.relu(x),
    "Relu6": lambda b, x: b.relu6(x),
    "ReluN1To1": lambda b, x: b.relu_n1_to_1(x),
    "Reshape": lambda b, x: b.reshape(x, (1, 30, 4)),
    "ResizeBilinear": lambda b, x: b.resize_bilinear(x, (9, 11)),
    "ResizeNearestNeighbor": lambda b, x: b.resize_nearest_neighbor(x, (12, 10)),
    "Slice": lambda b, x: b.slice(x, (0, 1, 1, 0), (1, 2, 3, 4)),
    "Softmax": lambda b, x: b.softmax(x),
    "Split": lambda b, x: b.split(x, 2)[1],
    "Squeeze": lambda b, x: b.squeeze(x),
    "StridedSlice": lambda b, x: b.strided_slice(x, (0, 5, 0, 0), (1, -1, 5, 4), (1, -2, 1, 1)),
    "Sub": lambda b, x: b.sub(x, x),
    "Tanh": lambda b, x: b.tanh(x),
    "Transpose": lambda b, x: b.transpose(x, (0, 3, 1, 2)),
    "TransposeConv": lambda b, x: b.transpose_conv(
        x, _weights(3, 3, 3, 4), _bias(3), size=(12, 10), stride=2, padding="same"
    ),
    "Unpack": lambda b, x: b.unpack(x, 1)[2],
}
"""Class name -> the sample; every class but Opaque, which nobody computes."""


def sample(name: str) -> Graph:
    """Return the graph of one class: uint8 in, one result out."""
    b = Builder(name.lower())
    x = b.input("x", "u8", SHAPE, scale=0.05, zero_point=120)
    result = SAMPLES[name](b, x)
    if name != "DetectionPostProcess":
        b.output(result)
    return b.build()


def opaque_graph() -> Graph:
    """Return a graph with an operation in the middle that nobody computes."""
    b = Builder("strange")
    x = b.input("x", "u8", SHAPE, scale=0.05, zero_point=120)
    (y,) = b.opaque("GATHER_ND", [b.relu(x)], [x.type], reason="GATHER_ND is not read")
    b.output(b.relu6(y))
    return b.build()


def random_inputs(graph: Graph, seed: int = 0) -> list[Array]:
    """Return reproducible arrays over the whole range of the graph's input types."""
    rng = np.random.default_rng(seed)
    return [_random(rng, v.type) for v in graph.inputs]


def _random(rng: np.random.Generator, type_: TensorType) -> Array:
    if type_.dtype is DType.FLOAT32:
        return rng.standard_normal(type_.shape).astype(np.float32)
    low, high = type_.dtype.range
    return rng.integers(low, high, type_.shape, type_.dtype.numpy, endpoint=True)
