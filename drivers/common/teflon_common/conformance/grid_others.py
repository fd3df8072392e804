"""The cases of all operations except convolutions and matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from teflon.ir import ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Quantization
from teflon_common.conformance.case import FORMS, Case, dtype_of, named
from teflon_common.conformance.graphs import Random, quantization, weights
from teflon_common.conformance.grid_moved import MOVED

Adder = Callable[["Site", Value], Value | tuple[Value, ...]]


class Site:
    """The builder, random numbers and element type with which a row adds its operation."""

    def __init__(self, random: Random, form: str) -> None:
        self.random, self.form, self.dtype = random, form, dtype_of(form)
        self.b = Builder("operation")

    def input(self, shape: tuple[int, ...], like: Value | None = None) -> Value:
        """Add an input, with random quantisation or with that of another value."""
        how = quantization(self.random, self.dtype)
        if like is not None:
            how = {"scale": like.type.scale, "zero_point": like.type.zero_point}
        return self.b.input("x", self.dtype, shape, **how)

    def constant(self, shape: tuple[int, ...]) -> Value:
        low, high = (0, 256) if self.dtype == "u8" else (-128, 128)
        data = self.random.integers(low, high, shape, np.uint8 if low == 0 else np.int8)
        how = quantization(self.random, self.dtype)
        return self.b.constant(data, how["scale"], how["zero_point"])

    def around(self, scale: float) -> dict[str, Any]:
        """Return a random quantisation for a result, with a scale near `scale`."""
        how = quantization(self.random, self.dtype)
        how["scale"] = scale * float(self.random.uniform(0.6, 1.6))
        return how


def _add(shape: tuple[int, ...], site: Site, x: Value, **how: Any) -> Value:
    y = site.input(shape)
    return site.b.add(x, y, **site.around(x.type.scale + y.type.scale), **how)


def _sub(site: Site, x: Value, y: Value, **how: Any) -> Value:
    return site.b.sub(x, y, **site.around(x.type.scale + y.type.scale), **how)


def _mul(site: Site, x: Value, y: Value, **how: Any) -> Value:
    return site.b.mul(x, y, **site.around(x.type.scale * y.type.scale * 60), **how)


def _add_constant(shape: tuple[int, ...], site: Site, x: Value) -> Value:
    y = site.constant(shape)
    return site.b.add(x, y, **site.around(x.type.scale + y.type.scale))


def _transpose_conv(site: Site, x: Value) -> Value:
    per_axis = 6 if site.form == "i8-axis" else 0
    shape = (6, 3, 3, x.shape[3])
    data, scaled = weights(site.random, site.dtype, shape, 9 * x.shape[3], per_axis)
    scale = x.type.scale * float(np.max(scaled["weight_scale"])) * 75 * 75 * 6 / 60
    return site.b.transpose_conv(
        x, data, size=(2 * x.shape[1], 2 * x.shape[2]), stride=2, padding="same",
        **{**scaled, **site.around(scale)},
    )  # fmt: skip


def _detections(site: Site, x: Value) -> tuple[Value, ...]:
    boxes = site.b.input("boxes", site.dtype, (1, 20, 4), 0.05, 128 if site.dtype == "u8" else 0)
    anchors = site.random.uniform(0.2, 0.8, (20, 4)).astype(np.float32)
    return site.b.detection_post_process(
        boxes, x, anchors, max_detections=5, max_classes_per_detection=1,
        detections_per_class=5, num_classes=3, y_scale=10.0, x_scale=10.0, h_scale=5.0,
        w_scale=5.0, nms_iou_threshold=0.6, nms_score_threshold=0.2, use_regular_nms=False,
    )  # fmt: skip


def _prelu(site: Site, x: Value) -> Value:
    return site.b.op(ops.Prelu, input=x, alpha=site.constant((1, 1, x.shape[-1])))


def _divided(site: Site, x: Value) -> Value:
    """Divide by numbers that are not zero, with a result that has many steps."""
    zero, scale = (100, 0.4) if site.dtype == "u8" else (0, 0.4)
    steps = site.random.integers(zero + 1, zero + 28, x.shape)
    divisor = site.b.constant(steps.astype("u1" if site.dtype == "u8" else "i1"), scale, zero)
    return site.b.op(ops.Div, a=x, b=divisor, scale=x.type.scale / 20, zero_point=zero)


def _positive(site: Site, x: Value) -> Value:
    """Return the absolute values, with a zero point that lets none be negative."""
    return site.b.abs(x, scale=x.type.scale * 1.3, zero_point=-128)


def _matrices(site: Site, x: Value) -> Value:
    y = site.input((1, 8, 16, 5))
    return site.b.op(ops.BatchMatMul, a=x, b=y, **site.around(x.type.scale * y.type.scale * 80))


def _svdf(site: Site, x: Value) -> Value:
    """Keep the last 8 values of 32 filters, two for each unit."""
    shapes = ((32, x.shape[1]), (32, 8))
    feature, time = (site.random.integers(-127, 128, s).astype(np.int8) for s in shapes)
    spread = x.type.scale * 0.01 * 75 * 75 * x.shape[1] ** 0.5
    return site.b.svdf(
        x, site.b.constant(feature, 0.01), site.b.constant(time, 1 / 128), rank=2,
        activation="relu", state=Quantization.per_tensor(spread / 40, 11),
        **site.around(spread / 30),
    )  # fmt: skip


def _real(kind: type[Any]) -> Adder:
    """Return a function of float32 numbers of an image."""
    return lambda site, x: site.b.op(kind, input=site.b.dequantize(x))


Row = tuple[str, str, tuple[int, ...], Adder]
MAP = (1, 8, 8, 16)
ODD = (1, 5, 7, 33)

ROWS: tuple[Row, ...] = (
    ("ADD", "in=8x8x16", MAP, partial(_add, MAP)),
    ("ADD", "in=5x7x33", ODD, partial(_add, ODD)),
    ("ADD", "in=8x8x16-relu", MAP, lambda s, x: _add(MAP, s, x, activation="relu")),
    ("ADD", "in=8x8x16-relu6", MAP, lambda s, x: _add(MAP, s, x, activation="relu6")),
    ("ADD", "in=1x100", (1, 100), partial(_add, (1, 100))),
    ("ADD", "in=80x80x32", (1, 80, 80, 32), partial(_add, (1, 80, 80, 32))),
    ("ADD", "in=8x8x16-broadcast=1x1x16", MAP, partial(_add, (1, 1, 1, 16))),
    ("ADD", "in=8x8x16-broadcast=8x8x1", MAP, partial(_add, (1, 8, 8, 1))),
    ("ADD", "in=5x7x33-broadcast=1", ODD, partial(_add, (1,))),
    ("ADD", "in=8x8x16-constant=1x1x16", MAP, partial(_add_constant, (1, 1, 1, 16))),
    ("ADD", "in=5x7x33-constant=scalar", ODD, partial(_add_constant, ())),
    ("ADD", "in=5x7x33-constant=5x7x33", ODD, partial(_add_constant, ODD)),
    ("ADD", "in=5x7x33-constant=7x1", ODD, partial(_add_constant, (7, 1))),
    ("ADD", "in=8x8x16-itself", MAP, lambda s, x: s.b.add(x, x, **s.around(2 * x.type.scale))),
    ("SUB", "in=8x8x16", MAP, lambda s, x: _sub(s, x, s.input(MAP))),
    ("SUB", "in=5x7x33-relu6", ODD, lambda s, x: _sub(s, x, s.input(ODD), activation="relu6")),
    ("SUB", "in=8x8x16-from-constant=1x1x16", MAP,
     lambda s, x: _sub(s, s.constant((1, 1, 1, 16)), x)),
    ("SUB", "in=5x7x33-from-broadcast=1x1x33", ODD,
     lambda s, x: _sub(s, s.input((1, 1, 1, 33)), x)),
    ("MUL", "in=8x8x16", MAP, lambda s, x: _mul(s, x, s.input(MAP))),
    ("MUL", "in=5x7x33", ODD, lambda s, x: _mul(s, x, s.input(ODD))),
    ("MUL", "in=5x7x33-relu", ODD, lambda s, x: _mul(s, x, s.input(ODD), activation="relu")),
    ("MUL", "in=8x8x16-relu6", MAP, lambda s, x: _mul(s, x, s.input(MAP), activation="relu6")),
    ("MUL", "in=5x7x33-broadcast=1x1x33", ODD, lambda s, x: _mul(s, x, s.input((1, 1, 1, 33)))),
    ("MUL", "in=8x8x16-broadcast=8x8x1", MAP, lambda s, x: _mul(s, s.input((1, 8, 8, 1)), x)),
    ("MUL", "in=8x8x16-constant=scalar", MAP, lambda s, x: _mul(s, x, s.constant(()))),
    ("MUL", "in=2x5x3x17-broadcast=2x1x1x17", (2, 5, 3, 17),
     lambda s, x: _mul(s, x, s.input((2, 1, 1, 17)))),
    ("MUL", "in=8x8x16-itself", MAP, lambda s, x: _mul(s, x, x)),
    ("MAXIMUM", "in=8x8x16", MAP, lambda s, x: s.b.maximum(x, s.input(MAP, x))),
    ("MINIMUM", "in=8x8x16", MAP, lambda s, x: s.b.minimum(x, s.input(MAP, x))),
    ("ABS", "in=8x8x16", MAP, lambda s, x: s.b.abs(x)),
    ("RELU", "in=8x8x16", MAP, lambda s, x: s.b.relu(x, **s.around(x.type.scale))),
    ("RELU6", "in=8x8x16", MAP, lambda s, x: s.b.relu6(x, **s.around(x.type.scale))),
    ("RELU_N1_TO_1", "in=8x8x16", MAP, lambda s, x: s.b.relu_n1_to_1(x)),
    ("LEAKY_RELU", "in=8x8x16-alpha=0.1", MAP, lambda s, x: s.b.leaky_relu(x, 0.1)),
    ("HARD_SWISH", "in=8x8x16", MAP, lambda s, x: s.b.hard_swish(x)),
    ("LOGISTIC", "in=8x8x16", MAP, lambda s, x: s.b.logistic(x)),
    ("TANH", "in=8x8x16", MAP, lambda s, x: s.b.tanh(x)),
    ("RELU_0_TO_1", "in=8x8x16", MAP, lambda s, x: s.b.op(ops.Relu0To1, input=x)),
    ("PRELU", "in=8x8x16-alpha=16", MAP, _prelu),
    ("PRELU", "in=5x7x33-alpha=33", ODD, _prelu),
    ("ELU", "in=8x8x16", MAP, lambda s, x: s.b.op(ops.Elu, input=x)),
    ("GELU", "in=8x8x16", MAP, lambda s, x: s.b.op(ops.Gelu, input=x)),
    ("GELU", "in=5x7x33-approximate", ODD,
     lambda s, x: s.b.op(ops.Gelu, input=x, approximate=True)),
    ("EXP", "in=8x8x16", MAP, lambda s, x: s.b.op(
        ops.Exp, input=s.b.relu_n1_to_1(x), scale=0.011, zero_point=-128
    )),
    ("LOG", "in=8x8x16", MAP, lambda s, x: s.b.op(ops.Log, input=x, scale=0.04)),
    ("RSQRT", "in=8x8x16", MAP, lambda s, x: s.b.op(
        ops.Rsqrt, input=_positive(s, x), scale=0.02, zero_point=-128
    )),
    ("NEG", "in=8x8x16", MAP, lambda s, x: s.b.op(ops.Neg, input=x)),
    ("SQRT", "in=8x8x16-float", MAP,
     lambda s, x: s.b.op(ops.Sqrt, input=s.b.abs(s.b.dequantize(x)))),
    ("SQUARE", "in=8x8x16-float", MAP, _real(ops.Square)),
    ("DIV", "in=8x8x16", MAP, _divided),
    ("FLOOR_DIV", "in=8x8x16-stored-numbers", MAP, lambda s, x: s.b.op(
        ops.FloorDiv, a=x, b=np.full((1, 1, 1, 1), 7, np.int8)
    )),
    ("SQUARED_DIFFERENCE", "in=8x8x16", MAP, lambda s, x: s.b.op(
        ops.SquaredDifference, a=x, b=s.input(MAP), **s.around(x.type.scale * 20)
    )),
    ("BATCH_MATMUL", "in=8x8x16-by=16x5", MAP, _matrices),
    ("SOFTMAX", "in=1x100", (1, 100), lambda s, x: s.b.softmax(x)),
    ("AVERAGE_POOL_2D", "in=8x8x16-k=2-s=2-valid", MAP,
     lambda s, x: s.b.average_pool2d(x, 2, stride=2, padding="valid")),
    ("AVERAGE_POOL_2D", "in=5x7x33-k=3-s=1-same", ODD, lambda s, x: s.b.average_pool2d(x, 3)),
    ("AVERAGE_POOL_2D", "in=7x7x64-k=7-s=1-valid", (1, 7, 7, 64),
     lambda s, x: s.b.average_pool2d(x, 7, padding="valid")),
    ("AVERAGE_POOL_2D", "in=12x10x48-k=3x2-s=2x1-padded", (1, 12, 10, 48),
     lambda s, x: s.b.average_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 0, 0, 1))),
    ("AVERAGE_POOL_2D", "in=17x17x40-k=5-s=1-same", (1, 17, 17, 40),
     lambda s, x: s.b.average_pool2d(x, 5)),
    ("AVERAGE_POOL_2D", "in=33x33x16-k=33-s=1-valid", (1, 33, 33, 16),
     lambda s, x: s.b.average_pool2d(x, 33, padding="valid")),
    ("AVERAGE_POOL_2D", "in=24x24x24-k=8-s=8-valid-relu6", (1, 24, 24, 24),
     lambda s, x: s.b.average_pool2d(x, 8, stride=8, padding="valid", activation="relu6")),
    ("MAX_POOL_2D", "in=8x8x16-k=2-s=2-valid", MAP,
     lambda s, x: s.b.max_pool2d(x, 2, stride=2, padding="valid")),
    ("MAX_POOL_2D", "in=5x7x33-k=3-s=2-same", ODD, lambda s, x: s.b.max_pool2d(x, 3, stride=2)),
    ("MAX_POOL_2D", "in=13x13x32-k=5-s=1-same", (1, 13, 13, 32), lambda s, x: s.b.max_pool2d(x, 5)),
    ("MAX_POOL_2D", "in=10x13x48-k=13-s=1-same", (1, 10, 13, 48),
     lambda s, x: s.b.max_pool2d(x, 13)),
    ("MAX_POOL_2D", "in=12x10x100-k=3x2-s=2x1-padded", (1, 12, 10, 100),
     lambda s, x: s.b.max_pool2d(x, (3, 2), stride=(2, 1), padding=(1, 0, 0, 1))),
    ("MAX_POOL_2D", "in=20x20x8-k=20-s=1-valid", (1, 20, 20, 8),
     lambda s, x: s.b.max_pool2d(x, 20, padding="valid")),
    ("MAX_POOL_2D", "in=8x8x16-k=3-s=2-same-relu", MAP,
     lambda s, x: s.b.max_pool2d(x, 3, stride=2, activation="relu")),
    ("MEAN", "in=7x7x64-rows-and-columns", (1, 7, 7, 64), lambda s, x: s.b.mean(x)),
    ("MEAN", "in=40x36x16-kept", (1, 40, 36, 16), lambda s, x: s.b.mean(x, keep_dims=True)),
    ("MEAN", "in=9x7x24-rows-kept", (1, 9, 7, 24), lambda s, x: s.b.mean(x, (1,), keep_dims=True)),
    ("MEAN", "in=5x7x33-kept", ODD, lambda s, x: s.b.mean(x, keep_dims=True)),
    ("SUM", "in=7x7x64-rows-and-columns", (1, 7, 7, 64), lambda s, x: s.b.op(
        ops.Sum, input=x, axes=(1, 2), **s.around(x.type.scale * 8)
    )),
    ("REDUCE_MAX", "in=7x7x64-rows-and-columns", (1, 7, 7, 64), lambda s, x: s.b.op(
        ops.ReduceMax, input=x, axes=(1, 2), keep_dims=True
    )),
    ("REDUCE_MIN", "in=5x7x33-channels", ODD,
     lambda s, x: s.b.op(ops.ReduceMin, input=x, axes=(3,))),
    ("ARG_MAX", "in=8x8x16-channels", MAP,
     lambda s, x: s.b.op(ops.ArgMax, input=x, axis=3, dtype="i32")),
    ("ARG_MIN", "in=8x8x16-channels", MAP,
     lambda s, x: s.b.op(ops.ArgMin, input=x, axis=3, dtype="i32")),
    ("CAST", "in=8x8x16-to=f32", MAP, lambda s, x: s.b.op(ops.Cast, input=x, dtype="f32")),
    ("CONCATENATION", "in=8x8x16-channels", MAP,
     lambda s, x: s.b.concatenation([x, s.input((1, 8, 8, 32), x)])),
    ("CONCATENATION", "in=5x7x33-channels", ODD,
     lambda s, x: s.b.concatenation([x, s.input((1, 5, 7, 3), x), x])),
    ("CONCATENATION", "in=8x8x16-rows", MAP,
     lambda s, x: s.b.concatenation([x, s.input((1, 3, 8, 16), x)], 1)),
    ("SPLIT", "in=8x8x16-parts=2-channels", MAP, lambda s, x: s.b.split(x, 2)),
    ("SPLIT", "in=8x8x16-parts=4-rows", MAP, lambda s, x: s.b.split(x, 4, 1)),
    ("SPLIT_V", "in=8x8x16-parts=5x11-channels", MAP, lambda s, x: s.b.split_v(x, (5, 11))),
    ("PACK", "in=5x16-axis=1", (5, 16), lambda s, x: s.b.pack([x, s.input((5, 16), x)], 1)),
    ("UNPACK", "in=3x16-axis=0", (3, 16), lambda s, x: s.b.unpack(x)),
    ("PAD", "in=8x8x16-by=1", MAP, lambda s, x: s.b.pad(x, (0, 1, 1, 0), (0, 1, 1, 0))),
    ("PAD", "in=5x7x33-by=0x2", ODD, lambda s, x: s.b.pad(x, (0, 0, 0, 0), (0, 2, 2, 0))),
    ("MIRROR_PAD", "in=8x8x16-by=1-reflect", MAP, lambda s, x: s.b.op(
        ops.MirrorPad, input=x, before=(0, 1, 1, 0), after=(0, 1, 1, 0)
    )),
    ("MIRROR_PAD", "in=5x7x33-by=2x3-symmetric", ODD, lambda s, x: s.b.op(
        ops.MirrorPad, input=x, before=(0, 2, 3, 0), after=(0, 1, 2, 0), reflect=False
    )),
    ("TILE", "in=5x7x33-by=2x1", ODD,
     lambda s, x: s.b.op(ops.Tile, input=x, multiples=(1, 2, 1, 1))),
    ("EXPAND_DIMS", "in=8x16-axis=1", (8, 16),
     lambda s, x: s.b.op(ops.ExpandDims, input=x, axis=1)),
    ("SPACE_TO_DEPTH", "in=8x8x16-block=2", MAP,
     lambda s, x: s.b.op(ops.SpaceToDepth, input=x, block=2)),
    ("DEPTH_TO_SPACE", "in=8x8x16-block=2", MAP,
     lambda s, x: s.b.op(ops.DepthToSpace, input=x, block=2)),
    ("SPACE_TO_BATCH_ND", "in=8x8x16-block=2x2", MAP, lambda s, x: s.b.op(
        ops.SpaceToBatch, input=x, block=(2, 2), before=(2, 1), after=(2, 1)
    )),
    ("BATCH_TO_SPACE_ND", "in=4x4x5x16-block=2x2", (4, 4, 5, 16), lambda s, x: s.b.op(
        ops.BatchToSpace, input=x, block=(2, 2), before=(1, 0), after=(0, 1)
    )),
    ("SVDF", "in=20-memory=8", (1, 20), _svdf),
    ("RESHAPE", "in=8x8x16-to=1x1024", MAP, lambda s, x: s.b.reshape(x, (1, 1024))),
    ("RESHAPE", "in=5x7x33-to=35x33", ODD, lambda s, x: s.b.reshape(x, (35, 33))),
    ("SQUEEZE", "in=1x1x100", (1, 1, 1, 100), lambda s, x: s.b.squeeze(x, (1, 2))),
    ("TRANSPOSE", "in=5x7x33-perm=0x2x1x3", ODD, lambda s, x: s.b.transpose(x, (0, 2, 1, 3))),
    ("TRANSPOSE", "in=5x7x33-perm=0x3x1x2", ODD, lambda s, x: s.b.transpose(x, (0, 3, 1, 2))),
    ("SLICE", "in=8x8x16-box", MAP, lambda s, x: s.b.slice(x, (0, 1, 2, 3), (1, 5, 4, 7))),
    ("GATHER", "in=5x7x33-rows=3", ODD,
     lambda s, x: s.b.op(ops.Gather, input=x, positions=np.array([4, 0, 2]), axis=1)),
    ("GATHER_ND", "in=5x7x33-pixels=2", ODD, lambda s, x: s.b.op(
        ops.GatherNd, input=x, positions=np.array([[0, 4, 2], [0, 0, 6]], np.int32)
    )),
    ("STRIDED_SLICE", "in=8x8x16-every=2", MAP,
     lambda s, x: s.b.strided_slice(x, (0, 0, 1, 0), (1, 8, 8, 16), (1, 2, 2, 1))),
    ("RESIZE_NEAREST_NEIGHBOR", "in=5x7x33-to=10x14", ODD,
     lambda s, x: s.b.resize_nearest_neighbor(x, (10, 14))),
    ("RESIZE_BILINEAR", "in=8x8x16-to=16x16", MAP, lambda s, x: s.b.resize_bilinear(x, (16, 16))),
    ("RESIZE_BILINEAR", "in=5x7x33-to=8x9-half", ODD,
     lambda s, x: s.b.resize_bilinear(x, (8, 9), half_pixel_centers=True)),
    ("QUANTIZE", "in=8x8x16-same-type", MAP,
     lambda s, x: s.b.quantize(x, s.dtype, **s.around(x.type.scale))),
    ("QUANTIZE", "in=8x8x16-other-type", MAP,
     lambda s, x: s.b.quantize(x, "i8" if s.dtype == "u8" else "u8")),
    ("DEQUANTIZE", "in=8x8x16", MAP, lambda s, x: s.b.dequantize(x)),
    ("TFLite_Detection_PostProcess", "in=20x4", (1, 20, 4), _detections),
)  # fmt: skip
"""Operation, the case's name without the form, shape of the input, function that adds it."""

NO_KERNEL = {
    *((op, "u8") for op in ("ABS", "ELU", "EXP", "FLOOR_DIV", "LOG", "NEG", "RSQRT",
                            "SQUARED_DIFFERENCE")),
    ("TFLite_Detection_PostProcess", "i8"),
    ("SVDF", "u8"),
    ("BATCH_MATMUL", "u8"),
}  # fmt: skip
"""Operations in a form for which TFLite has no kernel."""

WEIGHTED: Mapping[str, tuple[tuple[int, ...], Adder]] = {
    "in=4x4x8-out=6-k=3-s=2-same": ((1, 4, 4, 8), _transpose_conv),
    "in=5x3x17-out=6-k=3-s=2-same": ((1, 5, 3, 17), _transpose_conv),
}


def _graph(form: str, shape: tuple[int, ...], adder: Adder, random: Random) -> Graph:
    site = Site(random, form)
    made = adder(site, site.input(shape))
    site.b.output(*(made if isinstance(made, tuple) else (made,)))
    return site.b.build()


def others() -> Iterator[Case]:
    """Yield the cases of this table."""
    for form in FORMS:
        for title, (shape, adder) in WEIGHTED.items():
            name = named("transpose_conv", title, form)
            yield Case(name, "TRANSPOSE_CONV", form, partial(_graph, form, shape, adder))
    for form in ("u8", "i8"):
        for op, title, shape, adder in (*ROWS, *MOVED):
            if (op, form) in NO_KERNEL:
                continue
            yield Case(
                named(op.lower(), title, form), op, form, partial(_graph, form, shape, adder)
            )
