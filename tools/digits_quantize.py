"""Quantise the trained digits network: from float weights and ranges to a graph."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np

from digits_net import DigitsNet, Floats
from teflon.ir import ops
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Activation, DType, Padding, Quantization, TensorType


class Variant(enum.Enum):
    """How to quantise. int8: symmetric weights. uint8: asymmetric weights, as in older models."""

    INT8 = "int8"
    UINT8 = "uint8"

    @property
    def dtype(self) -> DType:
        return DType.INT8 if self is Variant.INT8 else DType.UINT8


def affine(low: float, high: float, dtype: DType) -> Quantization:
    """Return the quantisation that covers [low, high] and represents 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    first, last = dtype.range
    scale = (high - low) / (last - first)
    return Quantization.per_tensor(scale, int(np.clip(round(first - low / scale), first, last)))


def symmetric(weights: Floats) -> Quantization:
    """Return the int8 quantisation with zero point 0, which TFLite requires for int8 weights."""
    return Quantization.per_tensor(float(np.abs(weights).max()) / 127, 0)


def quantise(values: Floats, q: Quantization, dtype: DType) -> Floats:
    """Return the nearest quantised values of real values."""
    steps = np.rint(values / q.scale) + q.zero_point
    limited: Floats = np.clip(steps, *dtype.range).astype(dtype.numpy)
    return limited


@dataclass
class Writer:
    """Makes the values of the graph."""

    variant: Variant
    ranges: dict[str, tuple[float, float]]

    def activation(self, name: str, shape: tuple[int, ...], like: Value | None = None) -> Value:
        q = like.type.quantization if like else affine(*self.ranges[name], self.variant.dtype)
        return Value(name, TensorType(self.variant.dtype, shape, q))

    def constants(self, name: str, x: Value, weights: Floats, bias: Floats) -> tuple[Value, Value]:
        """Return the weights in the variant's type and the bias in int32."""
        dtype = self.variant.dtype
        if self.variant is Variant.INT8:
            q = symmetric(weights)
        else:
            q = affine(float(weights.min()), float(weights.max()), dtype)
        bias_q = Quantization.per_tensor(float(np.float32(x.type.scale) * np.float32(q.scale)))
        w = TensorType(dtype, weights.shape, q)
        b = TensorType(DType.INT32, bias.shape, bias_q)
        return (
            Value(f"{name}/weights", w, quantise(weights, q, dtype)),
            Value(f"{name}/bias", b, quantise(bias, bias_q, DType.INT32)),
        )


def quantised_graph(
    net: DigitsNet, ranges: dict[str, tuple[float, float]], variant: Variant
) -> Graph:
    """Return the network as a verified graph; `ranges` has (min, max) of every tensor."""
    make = Writer(variant, {**ranges, "image": (0.0, 1.0)})
    width = net.stem.weights.shape[0]
    image = make.activation("image", (1, 8, 8, 1))
    stem = make.activation("stem", (1, 8, 8, width))
    depthwise = make.activation("depthwise", (1, 8, 8, width))
    pointwise = make.activation("pointwise", (1, 8, 8, width))
    total = make.activation("sum", (1, 8, 8, width))
    reduced = make.activation("reduce", (1, 4, 4, width))
    expanded = make.activation("expand", (1, 4, 4, 2 * width))
    average = make.activation("average", (1, 2, 2, 2 * width), like=expanded)
    logits = make.activation("logits", (1, 10))
    first = variant.dtype.range[0]
    probability = Value(
        "probability",
        TensorType(variant.dtype, (1, 10), Quantization.per_tensor(1 / 256, first)),
    )
    body: list[Op] = [
        _conv(make, "stem", image, stem, net.stem.weights, net.stem.bias, Activation.RELU6),
        _depthwise(make, "depthwise", stem, depthwise, net.depthwise.weights, net.depthwise.bias),
        _conv(make, "pointwise", depthwise, pointwise, net.pointwise.weights[:, None, None],
              net.pointwise.bias, Activation.NONE),
        ops.Add(a=stem, b=pointwise, output=total, activation=Activation.RELU),
        _depthwise(make, "reduce", total, reduced, net.reduce.weights, net.reduce.bias, stride=2),
        _conv(make, "expand", reduced, expanded, net.expand.weights[:, None, None],
              net.expand.bias, Activation.RELU),
        ops.AveragePool2D(input=expanded, output=average, kernel=(2, 2), stride=(2, 2)),
    ]  # fmt: skip
    weights, bias = make.constants("head", average, net.head.weights, net.head.bias)
    head = ops.FullyConnected(input=average, weights=weights, bias=bias, output=logits)
    softmax = ops.Softmax(input=logits, output=probability)
    operations = (*body, head, softmax)
    return Graph(f"digits_{variant.value}", (image,), (probability,), operations).verify()


def _conv(
    make: Writer, name: str, x: Value, y: Value, weights: Floats, bias: Floats, act: Activation
) -> Op:
    w, b = make.constants(name, x, weights, bias)
    padding = Padding(*[weights.shape[1] // 2] * 4)
    return ops.Conv2D(input=x, weights=w, bias=b, output=y, padding=padding, activation=act)


def _depthwise(
    make: Writer, name: str, x: Value, y: Value, weights: Floats, bias: Floats, stride: int = 1
) -> Op:
    w, b = make.constants(name, x, weights[None], bias)
    padding = Padding.same((x.shape[1], x.shape[2]), (3, 3), (stride, stride))
    return ops.DepthwiseConv2D(
        input=x, weights=w, bias=b, output=y, stride=(stride, stride), padding=padding,
        activation=Activation.RELU,
    )  # fmt: skip
