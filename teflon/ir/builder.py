"""Build graphs by hand: result types and defaults are worked out, the graph is verified."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np

from teflon.ir import ops
from teflon.ir.builder_base import (
    Act,
    BuilderBase,
    Clamped,
    Kernel,
    Pair,
    Result,
    Window,
    accumulated,
    cut,
    described,
    ending,
    fixed,
    middle,
    named,
    pads,
    pair,
    resized,
)
from teflon.ir.graph import Value
from teflon.ir.types import Array, DType, Quantization, TensorType


class Builder(BuilderBase):
    """Collects operations in order; `build` returns the verified graph.

    The methods below add operations whose result or constants need some work; `op` adds any other
    one. Each returns its result's Value (a tuple where there are several). Arrays may stand for
    constants. Raises OptionError where operands cannot be combined.
    """

    # Convolutions --------------------------------------------------------------------------

    def conv2d(
        self, x: Value, weights: Value | Array, bias: Value | Array | None = None,
        **how: Unpack[Kernel],
    ) -> Value:  # fmt: skip
        """Add a convolution; weights OHWI."""
        w = self._weights(weights, how, axis=0)
        taps = math.prod(w.shape[1:])
        return self._convolve(ops.Conv2D, x, w, bias, how, taps, w.shape[1:3])

    def depthwise_conv2d(
        self, x: Value, weights: Value | Array, bias: Value | Array | None = None,
        **how: Unpack[Kernel],
    ) -> Value:  # fmt: skip
        """Add a convolution of each channel by itself; weights [1, kh, kw, C * multiplier]."""
        w = self._weights(weights, how, axis=3)
        taps = math.prod(w.shape[1:3])
        return self._convolve(ops.DepthwiseConv2D, x, w, bias, how, taps, w.shape[1:3])

    def transpose_conv(
        self, x: Value, weights: Value | Array, bias: Value | Array | None = None, *,
        size: tuple[int, int], **how: Unpack[Kernel],
    ) -> Value:  # fmt: skip
        """Add a transposed convolution whose result is (height, width) `size`; weights OHWI."""
        w = self._weights(weights, how, axis=0)
        stride = pair(how.get("stride", 1))
        padding = pads(how.get("padding", 0), size, w.shape[1:3], stride, (1, 1))
        shape = (x.shape[0], *size, w.shape[0])
        hint = dataclasses.replace(accumulated(x, w, math.prod(w.shape[1:])), shape=shape)
        return self._one(
            ops.TransposeConv, hint, how, input=x, weights=w, bias=self._bias(bias, x, w),
            stride=stride, padding=padding, **ending(how),
        )  # fmt: skip

    def fully_connected(
        self, x: Value, weights: Value | Array, bias: Value | Array | None = None, *,
        keep_num_dims: bool = False, weight_scale: float | Sequence[float] | None = None,
        weight_zero_point: int | None = None, **how: Unpack[Clamped],
    ) -> Value:  # fmt: skip
        """Add a fully connected layer; weights [O, K]."""
        kernel: Kernel = {}
        if weight_scale is not None:
            kernel["weight_scale"] = weight_scale
        if weight_zero_point is not None:
            kernel["weight_zero_point"] = weight_zero_point
        w = self._weights(weights, kernel, axis=0)
        return self._one(
            ops.FullyConnected, accumulated(x, w, w.shape[-1]), how, input=x, weights=w,
            bias=self._bias(bias, x, w), keep_num_dims=keep_num_dims, **ending(how),
        )  # fmt: skip

    # Element by element --------------------------------------------------------------------

    def add(self, a: Value | Array, b: Value | Array, **how: Unpack[Clamped]) -> Value:
        return self._binary(ops.Add, a, b, how, lambda x, y: x + y)

    def sub(self, a: Value | Array, b: Value | Array, **how: Unpack[Clamped]) -> Value:
        return self._binary(ops.Sub, a, b, how, lambda x, y: x + y)

    def mul(self, a: Value | Array, b: Value | Array, **how: Unpack[Clamped]) -> Value:
        return self._binary(ops.Mul, a, b, how, lambda x, y: x * y * 128)

    def maximum(self, a: Value, b: Value | Array, **how: Unpack[Result]) -> Value:
        return self._one(ops.Maximum, a.type, how, a=a, b=self._like(b, a))

    def minimum(self, a: Value, b: Value | Array, **how: Unpack[Result]) -> Value:
        return self._one(ops.Minimum, a.type, how, a=a, b=self._like(b, a))

    def abs(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.Abs, x.type, how, input=x)

    # Activations ---------------------------------------------------------------------------

    def relu(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.Relu, x.type, how, input=x)

    def relu6(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.Relu6, x.type, how, input=x)

    def relu_n1_to_1(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.ReluN1To1, x.type, how, input=x)

    def leaky_relu(self, x: Value, alpha: float = 0.25, **how: Unpack[Result]) -> Value:
        return self._one(ops.LeakyRelu, x.type, how, input=x, alpha=float(np.float32(alpha)))

    def hard_swish(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.HardSwish, x.type, how, input=x)

    def logistic(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.Logistic, fixed(x, 1 / 256, signed=False), how, input=x)

    def tanh(self, x: Value, **how: Unpack[Result]) -> Value:
        return self._one(ops.Tanh, fixed(x, 1 / 128, signed=True), how, input=x)

    def softmax(self, x: Value, beta: float = 1.0, **how: Unpack[Result]) -> Value:
        hint = fixed(x, 1 / 256, signed=False)
        return self._one(ops.Softmax, hint, how, input=x, beta=float(np.float32(beta)))

    # Pooling -------------------------------------------------------------------------------

    def average_pool2d(self, x: Value, kernel: Pair, **how: Unpack[Window]) -> Value:
        return self._pool(ops.AveragePool2D, x, kernel, how)

    def max_pool2d(self, x: Value, kernel: Pair, **how: Unpack[Window]) -> Value:
        return self._pool(ops.MaxPool2D, x, kernel, how)

    def mean(
        self, x: Value, axes: Sequence[int] = (1, 2), keep_dims: bool = False,
        **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        axes = tuple(sorted(a % x.type.rank for a in axes))
        return self._one(ops.Mean, x.type, how, input=x, axes=axes, keep_dims=keep_dims)

    # Layers with a memory --------------------------------------------------------------------

    def svdf(
        self, x: Value, feature: Value | Array, time: Value | Array,
        bias: Value | Array | None = None, *, rank: int = 1, activation: Act = "none",
        state: Quantization | None = None, **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        """Add an SVDF and its state, which begins with its zero point.

        `feature` [filters, inputs] and `time` [filters, memory] are the weights; `state` says how
        the state of the element type of `time` is quantised. Quantised arrays get the scale 1/128.
        """
        first, second = (self._weights(array, {}, 0) for array in (feature, time))
        shape = (x.shape[0], second.type.size)
        old = Value(self._name("state"), TensorType(second.type.dtype, shape, state))
        summed = bias
        if isinstance(bias, np.ndarray):
            factor = old.type.scale * second.type.scale
            summed = self.constant(bias, factor if state else None, name="bias")
        hint = dataclasses.replace(x.type, quantization=described(x.type, x.type, how))
        y, made = self._many(
            ops.Svdf, [hint, old.type], {"name": how.get("name", "svdf")}, input=x,
            weights_feature=first, weights_time=second, bias=summed, state=old, rank=rank,
            activation=named(activation),
        )  # fmt: skip
        new = dataclasses.replace(old)
        self._ops[-1] = self._ops[-1].rewired({made: new})
        self.state(old, new, old.type.zero_point)
        return y

    # Movement ------------------------------------------------------------------------------

    def concatenation(
        self, values: Sequence[Value], axis: int = -1, activation: Act = "none",
        **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        first = values[0].type
        return self._one(
            ops.Concatenation, first, how, inputs=tuple(values), axis=axis % first.rank,
            activation=named(activation),
        )  # fmt: skip

    def split(self, x: Value, parts: int, axis: int = -1) -> tuple[Value, ...]:
        hints = [cut(x.type, axis % x.type.rank, parts)] * parts
        return self._many(ops.Split, hints, {}, input=x, axis=axis % x.type.rank)

    def split_v(self, x: Value, sizes: Sequence[int], axis: int = -1) -> tuple[Value, ...]:
        axis, hints = axis % x.type.rank, [x.type] * len(sizes)
        return self._many(ops.SplitV, hints, {}, input=x, axis=axis, sizes=tuple(sizes))

    def pack(self, values: Sequence[Value], axis: int = 0, **how: Unpack[Result]) -> Value:
        first = values[0].type
        return self._one(
            ops.Pack, first, how, inputs=tuple(values), axis=axis % (first.rank + 1)
        )  # fmt: skip

    def unpack(self, x: Value, axis: int = 0) -> tuple[Value, ...]:
        axis %= x.type.rank
        hint = dataclasses.replace(x.type, shape=x.shape[:axis] + x.shape[axis + 1 :])
        return self._many(ops.Unpack, [hint] * x.shape[axis], {}, input=x, axis=axis)

    def pad(
        self, x: Value, before: Sequence[int], after: Sequence[int],
        value: Value | Array | None = None, **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        """Grow each axis, by zeros or by a quantised `value`."""
        filler = None if value is None else self._like(value, x)
        return self._one(
            ops.Pad, x.type, how, input=x, value=filler, before=tuple(before), after=tuple(after)
        )

    def reshape(self, x: Value, shape: Sequence[int], **how: Unpack[Result]) -> Value:
        hint = dataclasses.replace(x.type, shape=tuple(shape))
        return self._one(ops.Reshape, hint, how, input=x)

    def squeeze(self, x: Value, axes: Sequence[int] = (), **how: Unpack[Result]) -> Value:
        axes = tuple(a % x.type.rank for a in axes)
        return self._one(ops.Squeeze, x.type, how, input=x, axes=axes)

    def transpose(self, x: Value, perm: Sequence[int], **how: Unpack[Result]) -> Value:
        return self._one(ops.Transpose, x.type, how, input=x, perm=tuple(perm))

    def slice(
        self, x: Value, begin: Sequence[int], size: Sequence[int], **how: Unpack[Result]
    ) -> Value:
        return self._one(
            ops.Slice, x.type, how, input=x, begin=tuple(begin), size=tuple(size)
        )  # fmt: skip

    def strided_slice(
        self, x: Value, begin: Sequence[int], end: Sequence[int], strides: Sequence[int],
        shrink_axes: Sequence[int] = (), **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        return self._one(
            ops.StridedSlice, x.type, how, input=x, begin=tuple(begin), end=tuple(end),
            strides=tuple(strides), shrink_axes=tuple(shrink_axes),
        )  # fmt: skip

    def resize_nearest_neighbor(
        self, x: Value, size: tuple[int, int], align_corners: bool = False,
        half_pixel_centers: bool = False, **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        return self._one(
            ops.ResizeNearestNeighbor, resized(x, size), how, input=x,
            align_corners=align_corners, half_pixel_centers=half_pixel_centers,
        )  # fmt: skip

    def resize_bilinear(
        self, x: Value, size: tuple[int, int], align_corners: bool = False,
        half_pixel_centers: bool = False, **how: Unpack[Result],
    ) -> Value:  # fmt: skip
        return self._one(
            ops.ResizeBilinear, resized(x, size), how, input=x,
            align_corners=align_corners, half_pixel_centers=half_pixel_centers,
        )  # fmt: skip

    # Quantisation, detection, opaque operations ---------------------------------------------

    def quantize(self, x: Value, dtype: str | DType, **how: Unpack[Result]) -> Value:
        """Quantise or requantise; without a scale, to 1/128 around the middle."""
        kind = DType(dtype)
        hint = TensorType(kind, x.shape, Quantization.per_tensor(1 / 128, middle(kind)))
        return self._one(ops.Quantize, hint, how, input=x)

    def dequantize(self, x: Value, name: str = "") -> Value:
        hint = TensorType(DType.FLOAT32, x.shape)
        return self._one(ops.Dequantize, hint, {"name": name}, input=x)

    def detection_post_process(
        self, boxes: Value, scores: Value, anchors: Value | Array, **attributes: Any
    ) -> tuple[Value, ...]:
        """Return boxes, classes, scores and count; `attributes` are the fields of the operation."""
        count = int(attributes["max_detections"]) * int(attributes["max_classes_per_detection"])
        shapes = [(1, count, 4), (1, count), (1, count), (1,)]
        hints = [TensorType(DType.FLOAT32, shape) for shape in shapes]
        table = anchors if isinstance(anchors, Value) else self.constant(anchors)
        return self._many(
            ops.DetectionPostProcess, hints, {}, boxes=boxes, scores=scores, anchors=table,
            **attributes,
        )  # fmt: skip

    def opaque(
        self, kind: str, inputs: Sequence[Value | None], types: Sequence[TensorType],
        reason: str = "", options: bytes = b"",
    ) -> tuple[Value, ...]:  # fmt: skip
        """Add an operation that the IR only carries; its results have these types."""
        return self._many(
            ops.Opaque, types, {"name": kind.lower()}, inputs=tuple(inputs), kind=kind,
            options=options, reason=reason,
        )  # fmt: skip
