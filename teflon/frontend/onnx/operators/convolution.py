"""Convolutions and matrix products with constant weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from teflon.frontend.onnx.layout import Perm, View, channels_last, plain
from teflon.frontend.onnx.operators.bias import bias_of
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities, Row
from teflon.frontend.onnx.operators.windows import explicit, pair, window
from teflon.frontend.onnx.site import Site
from teflon.frontend.onnx.tensors import converted
from teflon.ir import ops
from teflon.ir.types import DType, Padding

_MOST_DENSE = 1 << 24
"""Weights of a transposed convolution whose groups are written out as zeros."""

Layer = ops.Conv2D | ops.DepthwiseConv2D | ops.TransposeConv | ops.FullyConnected

# Conv: x, weights [O, I / group, ...], optional bias ---------------------------------------------


def _read_conv(site: Site) -> View:
    x, weights = site.quantised(0), _weights(site)
    rank = x.rank
    site.require(rank in (3, 4), f"has {rank - 2} axes of space, must have 1 or 2")
    site.require(weights.rank == rank, f"weights have {weights.rank} axes, must have {rank}")
    channels, group = x.shape[1], site.integer("group", 1)
    outputs, depth, *kernel = weights.shape
    site.require(
        group >= 1 and depth * group == channels and outputs % group == 0,
        f"group is {group}, must divide {channels} channels and {outputs} outputs",
    )
    look = window(site, x.shape[2:], tuple(kernel))
    depthwise = group == channels and channels > 1
    order = _depthwise_order(rank) if depthwise else channels_last(rank)
    fields: dict[str, Any] = {
        "stride": look.stride,
        "dilation": look.dilation,
        "padding": look.padding,
    }
    kind = ops.DepthwiseConv2D if depthwise else ops.Conv2D
    return accumulate(site, kind, x, weights, channels_last(rank), order, **fields)


def _depthwise_order(rank: int) -> Perm:
    """Return [1, height, width, outputs] of weights [outputs, 1, height, width]."""
    return (1, None, 2, 0) if rank == 3 else (1, 2, 3, 0)


def _weights(site: Site) -> View:
    """Return the weights, which must be quantised constants."""
    tensor = site.operand(1)
    view = tensor.steps
    if view is None:
        site.unread(f"weights {tensor.name!r} are not quantised")
    site.require(view.value.is_constant, f"weights {tensor.name!r} are computed, must be constant")
    dtype = view.type.dtype
    good = dtype in (DType.UINT8, DType.INT8)
    site.require(good, f"weights {tensor.name!r} are {dtype.value}, must be u8 or i8")
    site.require(view.type.size > 0, f"weights {tensor.name!r} have no elements")
    return view


def accumulate(
    site: Site, kind: type[Layer], x: View, weights: View, x_order: Perm, w_order: Perm,
    shape: tuple[int, ...] = (), result_order: Perm | None = None, **fields: Any,
) -> View:  # fmt: skip
    """Add a sum of products: operands of one sign, the bias in the sums' steps."""
    w = _of_one_sign(site, x, site.arranged(weights, w_order))
    if w is None:  # only unsigned operations take weights with a zero point
        return _unsigned(site, kind, x, weights, x_order, w_order, shape, result_order, **fields)
    image = site.arranged(x, x_order).value
    bias = bias_of(site, image, w.value, w.value.shape[kind.output_axis])
    perm = result_order if result_order is not None else x_order
    return site.computed(
        kind, perm, shape, input=image, weights=w.value, bias=bias, **fields
    )  # fmt: skip


def _of_one_sign(site: Site, x: View, w: View) -> View | None:
    """Return weights of the input's sign; None where TFLite's operation cannot take them."""
    dtype = x.type.dtype
    found = site.retyped(w, dtype)
    kind = found.type.quantization
    assert kind is not None
    if dtype is DType.INT8 and any(kind.zero_points):
        return None
    if dtype is DType.UINT8 and kind.per_axis:
        return None
    return found


def _unsigned(
    site: Site, kind: type[Layer], x: View, weights: View, x_order: Perm, w_order: Perm,
    shape: tuple[int, ...], result_order: Perm | None, **fields: Any,
) -> View:  # fmt: skip
    """Add a sum of products in the other sign, converted before and behind."""
    other = DType.INT8 if x.type.dtype is DType.UINT8 else DType.UINT8
    image = site.retyped(x, other)
    w = _of_one_sign(site, image, site.arranged(weights, w_order))
    if w is None:
        site.unread("weights are quantised per axis with zero points, must be symmetric")
    goal = site.goal
    inner = dataclasses.replace(goal, held=converted(goal.held, other))
    site.target = inner
    arranged = site.arranged(image, x_order).value
    perm = result_order if result_order is not None else x_order
    made = site.computed(
        kind, perm, shape, input=arranged, weights=w.value,
        bias=bias_of(site, arranged, w.value, w.value.shape[kind.output_axis]), **fields,
    )  # fmt: skip
    site.target = goal
    return site.retyped(made, goal.held.dtype)


# ConvTranspose: x, weights [I, O / group, ...], optional bias ------------------------------------


def _read_conv_transpose(site: Site) -> View:
    x, weights = site.quantised(0), _weights(site)
    rank = x.rank
    site.require(rank in (3, 4), f"has {rank - 2} axes of space, must have 1 or 2")
    site.require(weights.rank == rank, f"weights have {weights.rank} axes, must have {rank}")
    weights = _without_groups(site, weights, site.integer("group", 1))
    count = rank - 2
    dilations = site.integers("dilations") or (1,) * count
    site.require(set(dilations) == {1}, f"dilations are {list(dilations)}, must be 1")
    strides = site.integers("strides") or (1,) * count
    site.require(
        len(strides) == count and min(strides) >= 1,
        f"strides are {list(strides)}, must be {count} numbers of 1 or more",
    )
    kernel = weights.shape[2:]
    size, before, after = _grown(site, x.shape[2:], kernel, strides)
    lead, none = (1,) * (2 - count), (0,) * (2 - count)
    top, left = (*none, *before)
    bottom, right = (*none, *after)
    order = (1, None, 2, 0) if rank == 3 else (1, 2, 3, 0)
    shape = (x.shape[0], *lead, *size, weights.shape[1])
    return accumulate(
        site, ops.TransposeConv, x, weights, channels_last(rank), order, shape,
        stride=pair(lead + tuple(strides)), padding=Padding(top, bottom, left, right),
    )  # fmt: skip


def _without_groups(site: Site, weights: View, group: int) -> View:
    """Return weights [I, O, ...] that see all channels: zeros for those of other groups."""
    inputs, outputs = weights.shape[:2]
    site.require(group >= 1 and inputs % group == 0, f"group is {group}, must divide {inputs}")
    data, kind = weights.value.data, weights.type.quantization
    if group == 1 or data is None or kind is None:
        return weights
    site.require(weights.type.size * group <= _MOST_DENSE, f"has {group} groups, must have fewer")
    site.require(not kind.per_axis, "has groups and weights quantised per axis, must be per tensor")
    weights = site.arranged(weights, plain(weights.rank))
    given = weights.value.data
    assert given is not None
    shape = (inputs, outputs * group, *weights.shape[2:])
    full = np.full(shape, kind.zero_point, given.dtype)
    each = inputs // group
    for g in range(group):
        full[g * each : (g + 1) * each, g * outputs : (g + 1) * outputs] = given[
            g * each : (g + 1) * each
        ]
    return View(site.emitter.constant(full, weights.value.name, kind), weights.perm)


def _grown(
    site: Site, size: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the result's size, and what is cut off before and behind each axis."""
    count = len(size)
    extra = site.integers("output_padding") or (0,) * count
    site.require(len(extra) == count, f"output_padding is {list(extra)}, must be {count} numbers")
    auto = site.text("auto_pad", "NOTSET") or "NOTSET"
    wanted = site.integers("output_shape")
    full = [s * (n - 1) + e + k for n, k, s, e in zip(size, kernel, strides, extra, strict=True)]
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(size, strides, strict=True))
    if wanted is None:
        before, after = explicit(site, count) if auto == "NOTSET" else ((0,) * count,) * 2
        made = tuple(f - b - a for f, b, a in zip(full, before, after, strict=True))
        return made, before, after
    wanted = wanted[-count:]
    site.require(len(wanted) == count, f"output_shape is {list(wanted)}, must be {count} numbers")
    totals = [max(0, f - w) for f, w in zip(full, wanted, strict=True)]
    halves = [t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in totals]
    return tuple(wanted), tuple(halves), tuple(t - h for t, h in zip(totals, halves, strict=True))


# Gemm: x, weights, optional bias; MatMul: x, weights ---------------------------------------------


def _read_gemm(site: Site) -> View:
    beta = site.number("beta", 1.0)
    site.require(beta == 1.0 or site.optional(2) is None, f"beta is {beta:g}, must be 1")
    if site.integer("transA", 0):
        _transpose_input(site)
    weights = _scaled(site, _weights(site), site.number("alpha", 1.0))
    site.require(weights.rank == 2, f"weights have {weights.rank} axes, must have 2")
    return _dense(site, weights, (0, 1) if site.integer("transB", 0) else (1, 0))


def _transpose_input(site: Site) -> None:
    """Let the first operand be the file's, transposed."""
    x = site.quantised(0)
    site.require(x.rank == 2, f"input has {x.rank} axes, must have 2")
    turned = dataclasses.replace(site.operand(0), steps=x.renamed({0: 1, 1: 0}), source=None)
    site.operands = [turned, *site.operands[1:]]


def _scaled(site: Site, weights: View, alpha: float) -> View:
    """Return weights times a number: their scale is."""
    kind, value = weights.type.quantization, weights.value
    if alpha == 1.0 or kind is None:
        return weights
    site.require(alpha > 0, f"alpha is {alpha:g}, must be above 0")
    quantised = site.node.kind == "QGemm" and site.optional(2) is not None
    site.require(not quantised, f"alpha is {alpha:g} beside a bias, must be 1")
    scales = tuple(float(np.float32(s) * np.float32(alpha)) for s in kind.scales)
    type_ = dataclasses.replace(value.type, quantization=dataclasses.replace(kind, scales=scales))
    return View(dataclasses.replace(value, type=type_), weights.perm)


def _read_matmul(site: Site) -> View:
    b = site.operand(1)
    if b.steps is not None and not b.steps.value.is_constant:
        return _product(site)
    weights = _weights(site)
    site.require(weights.rank == 2, f"weights have {weights.rank} axes, must have 2")
    return _dense(site, weights, (1, 0))


def _dense(site: Site, weights: View, order: Perm) -> View:
    """Add a fully connected layer; the weights' order makes [outputs, inputs] of them."""
    x = site.quantised(0)
    source = site.operand(0).source
    inside = weights.shape[1 if order == (0, 1) else 0]
    site.require(x.rank >= 2, f"input has {x.rank} axes, must have 2 or more")
    site.require(x.shape[-1] == inside, f"input ends in {x.shape[-1]}, must end in {inside}")
    if source is not None and x.rank == 2:
        x, weights, order = _in_source_order(site, x, source, site.arranged(weights, order))
    perm: Perm = tuple(range(x.rank))
    return accumulate(
        site, ops.FullyConnected, x, weights, perm, order, keep_num_dims=x.rank > 2
    )  # fmt: skip


def _in_source_order(site: Site, x: View, source: View, weights: View) -> tuple[View, View, Perm]:
    """Return a flattened image as it lies in memory, and weights [O, K] in the same order."""
    value = weights.value
    assert value.data is not None
    kept = [axis for axis in source.perm if axis is not None]
    cube = value.data.reshape(value.shape[0], *source.shape[1:])
    data = np.ascontiguousarray(cube.transpose(kept)).reshape(value.shape)
    moved = site.emitter.constant(data, value.name, value.type.quantization)
    flat = dataclasses.replace(source.type, shape=x.shape)
    image = site.emitter.emit(ops.Reshape, x.value.name, flat, input=source.value)
    return View(image, (0, 1)), View(moved, (0, 1)), (0, 1)


def _product(site: Site) -> View:
    """Add a product of two computed matrices."""
    a, b = (site.retyped(site.quantised(i), DType.INT8) for i in (0, 1))
    site.require(min(a.rank, b.rank) >= 2, "factors must have 2 axes or more")
    values = [site.arranged(v, plain(v.rank)).value for v in (a, b)]
    goal = site.goal
    site.target = dataclasses.replace(goal, held=converted(goal.held, DType.INT8))
    perm = plain(max(a.rank, b.rank))
    made = site.computed(ops.BatchMatMul, perm, a=values[0], b=values[1])
    site.target = goal
    return site.retyped(made, goal.held.dtype)


_CONV = "1 or 2 axes of space; weights constant, per tensor or per output channel"
_DENSE = "weights constant, per tensor or per output"
_LAYERS = (ops.FullyConnected,)

ROWS = (
    Row(
        kind="Conv", read=_read_conv, classes=(ops.Conv2D, ops.DepthwiseConv2D), note=_CONV,
        inputs=(2, 3),
    ),
    Row(
        kind="QLinearConv", read=_read_conv, classes=(ops.Conv2D, ops.DepthwiseConv2D), note=_CONV,
        inputs=(8, 9), quantities=Quantities(((0, 1, 2), (3, 4, 5), (8,)), (6, 7)),
    ),
    Row(
        kind="ConvTranspose", read=_read_conv_transpose, classes=(ops.TransposeConv,),
        note=f"{_CONV}; no dilation", inputs=(2, 3),
    ),
    Row(
        kind="Gemm", read=_read_gemm, classes=_LAYERS, note=f"{_DENSE}; beta 1",
        inputs=(2, 3),
    ),
    Row(
        kind="QGemm", read=_read_gemm, classes=_LAYERS, note=f"{_DENSE}; alpha 1 beside a bias",
        domain=MICROSOFT, inputs=(9, 9),
        quantities=Quantities(((0, 1, 2), (3, 4, 5), (6,)), (7, 8), axis=1),
    ),
    Row(
        kind="MatMul", read=_read_matmul, classes=(*_LAYERS, ops.BatchMatMul),
        note="constant or computed factors", inputs=(2, 2),
    ),
    Row(
        kind="QLinearMatMul", read=_read_matmul, classes=(*_LAYERS, ops.BatchMatMul),
        note="constant or computed factors", inputs=(8, 8),
        quantities=Quantities(((0, 1, 2), (3, 4, 5)), (6, 7), axis=-1),
    ),
)  # fmt: skip
