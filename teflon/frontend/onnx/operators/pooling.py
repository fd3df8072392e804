"""Reduce windows of an image, or whole images, to one value each."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from teflon.frontend.onnx.layout import View, channels_last
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities, Row
from teflon.frontend.onnx.operators.windows import Window, kernel_shape, window
from teflon.frontend.onnx.site import Site
from teflon.ir import Value, ops
from teflon.ir.types import NO_PADDING, DType, Padding, Quantization

_COARSE = 1.5
_UNARY = Quantities(((0, 1, 2),), (3, 4))


def _image(site: Site, x: View) -> tuple[View, Window, tuple[int, int]]:
    """Return the image with channels last, the window over it, and the result's size."""
    rank = x.rank
    site.require(rank in (3, 4), f"has {rank - 2} axes of space, must have 1 or 2")
    size = x.shape[2:]
    look = window(site, size, kernel_shape(site, rank - 2))
    site.require(
        look.dilation == (1, 1), f"dilations are {list(look.dilation)}, must be 1"
    )  # fmt: skip
    return site.arranged(x, channels_last(rank)), look, _output(site, look, size)


def _output(site: Site, look: Window, size: tuple[int, ...]) -> tuple[int, int]:
    """Return (height, width) of the result; rounded up, no window may begin behind the image."""
    height_width = ((1,) * (2 - len(size)) + size)[-2:]
    exact = look.padding.output((height_width[0], height_width[1]), look.kernel, look.stride)
    auto = site.text("auto_pad", "NOTSET") or "NOTSET"
    if not site.integer("ceil_mode", 0) or auto != "NOTSET":
        return exact
    sides = ((look.padding.top, look.padding.bottom), (look.padding.left, look.padding.right))
    found = []
    for n, (before, after), k, s in zip(height_width, sides, look.kernel, look.stride, strict=True):
        count = -(-(n + before + after - k) // s) + 1
        found.append(count - 1 if (count - 1) * s >= n + before else count)
    return found[0], found[1]


def _reaching(look: Window, image: Value, out: tuple[int, int]) -> Padding:
    """Return the padding with which windows make a result of this size."""
    pad = look.padding
    reach = [(n - 1) * s + k for n, s, k in zip(out, look.stride, look.kernel, strict=True)]
    return Padding(
        pad.top, max(0, reach[0] - image.shape[1] - pad.top),
        pad.left, max(0, reach[1] - image.shape[2] - pad.left),
    )  # fmt: skip


# MaxPool -----------------------------------------------------------------------------------------


def _read_max_pool(site: Site) -> View:
    site.one_result()
    x = site.moved(0)
    good = x.type.dtype in (DType.UINT8, DType.INT8, DType.FLOAT32)
    site.require(good, f"input is {x.type.dtype.value}, must be u8, i8 or f32")
    image, look, out = _image(site, x)
    return site.moving(
        ops.MaxPool2D, x, image.perm, input=image.value, kernel=look.kernel, stride=look.stride,
        padding=_reaching(look, image.value, out),
    )  # fmt: skip


# AveragePool -------------------------------------------------------------------------------------


def _read_average_pool(site: Site) -> View:
    site.require(not site.integer("channels_last", 0), "channels are last, must be second")
    goal = site.goal
    x = site.retyped(site.quantised(0), goal.held.dtype)
    image, look, out = _image(site, x)
    padding = _reaching(look, image.value, out)
    value = image.value
    if site.integer("count_include_pad", 0) and look.padding != NO_PADDING:
        site.require(
            padding == look.padding, "counts its padding and rounds the size up, must not do both"
        )
        value, padding = _padded(site, image, padding), NO_PADDING
    fields: dict[str, Any] = {"kernel": look.kernel, "stride": look.stride, "padding": padding}
    same = (x.type.scale, x.type.zero_point) == (goal.held.scale, goal.held.zero_point)
    if same:
        return site.computed(ops.AveragePool2D, image.perm, input=value, **fields)
    if padding == NO_PADDING:
        return _as_convolution(site, View(value, image.perm), look)
    ratio = x.type.scale / goal.held.scale
    site.require(
        ratio < _COARSE, f"scale becomes {1 / ratio:.3g} of the input's, must not be much smaller"
    )
    inner = dataclasses.replace(x.type, shape=())
    pooled = site.emitter.emit(ops.AveragePool2D, f"{goal.name}/pool", inner, input=value, **fields)
    return site.finished(View(pooled, image.perm))


def _padded(site: Site, image: View, padding: Padding) -> Value:
    before, after = (0, padding.top, padding.left, 0), (0, padding.bottom, padding.right, 0)
    return site.emitter.emit(
        ops.Pad, f"{site.goal.name}/pad", image.type, input=image.value, before=before, after=after
    )


def _as_convolution(site: Site, image: View, look: Window) -> View:
    """Return the mean on another scale: a convolution with ones, which rounds once."""
    channels = image.value.shape[3]
    dtype = image.type.dtype
    one = 1 if dtype is DType.INT8 else 129
    scale = float(np.float32(1 / math.prod(look.kernel)))
    weights = site.emitter.constant(
        np.full((1, *look.kernel, channels), one, dtype.numpy), f"{site.goal.name}/ones",
        Quantization((scale,), (one - 1,)),
    )  # fmt: skip
    return site.computed(
        ops.DepthwiseConv2D, image.perm, input=image.value, weights=weights, stride=look.stride
    )


# GlobalAveragePool, GlobalMaxPool ----------------------------------------------------------------


def _read_global_average(site: Site) -> View:
    last = site.integer("channels_last", 0)
    x = site.retyped(site.quantised(0), site.goal.held.dtype)
    site.require(x.rank >= 3, f"input has {x.rank} axes, must have 3 or more")
    axes = range(1, x.rank - 1) if last else range(2, x.rank)
    places = tuple(sorted(x.place(axis) for axis in axes))
    return site.computed(ops.Mean, x.perm, input=x.value, axes=places, keep_dims=True)


def _read_global_max(site: Site) -> View:
    x = site.moved(0)
    site.require(x.rank >= 3, f"input has {x.rank} axes, must have 3 or more")
    places = tuple(sorted(x.place(axis) for axis in range(2, x.rank)))
    return site.moving(ops.ReduceMax, x, x.perm, input=x.value, axes=places, keep_dims=True)


_AVERAGE = (ops.AveragePool2D, ops.DepthwiseConv2D)
_WINDOW = "1 or 2 axes of space, no dilation"

ROWS = (
    Row(kind="MaxPool", read=_read_max_pool, classes=(ops.MaxPool2D,), note=_WINDOW, moves=True),
    Row(kind="AveragePool", read=_read_average_pool, classes=_AVERAGE, note=_WINDOW),
    Row(
        kind="QLinearAveragePool", read=_read_average_pool, classes=_AVERAGE, note=_WINDOW,
        domain=MICROSOFT, inputs=(4, 5), quantities=_UNARY,
    ),
    Row(kind="GlobalAveragePool", read=_read_global_average, classes=(ops.Mean,)),
    Row(
        kind="QLinearGlobalAveragePool", read=_read_global_average, classes=(ops.Mean,),
        domain=MICROSOFT, inputs=(5, 5), quantities=_UNARY,
    ),
    Row(kind="GlobalMaxPool", read=_read_global_max, classes=(ops.ReduceMax,), moves=True),
)  # fmt: skip
