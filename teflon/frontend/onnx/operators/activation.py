"""Activation functions that the IR has. All others of one element become tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from teflon.frontend.onnx.layout import View, plain
from teflon.frontend.onnx.operators.elementwise import common
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities, Read, Row
from teflon.frontend.onnx.site import Site
from teflon.frontend.onnx.tensors import dequantised, quantised
from teflon.frontend.onnx.types import QType
from teflon.ir import Op, ops
from teflon.ir.quantized import logistic
from teflon.ir.types import Array, DType, Quantization, TensorType

_STEP = 1 / 256
_COARSE = 1.5
"""A result that is rounded to steps this much larger first may be two steps off in the end."""

_UNARY = Quantities(((0, 1, 2),), (3, 4))


def _fixed(site: Site) -> TensorType:
    """Return the type that TFLite prescribes for results between 0 and 1."""
    dtype = site.goal.held.dtype
    return TensorType(dtype, (), Quantization((_STEP,), (dtype.range[0],)))


def _made(site: Site, kind: type[Op]) -> View:
    x = site.retyped(site.quantised(0), site.goal.held.dtype)
    return site.computed(kind, x.perm, input=x.value)


def _unary(kind: type[Op]) -> Read:
    return lambda site: _made(site, kind)


def _read_relu(site: Site) -> View:
    """Read Relu. Zero is a step, so it needs no quantised result to be exact."""
    if site.target is not None:
        return _made(site, ops.Relu)
    x = site.quantised(0)
    return site.moving(ops.Relu, x, x.perm, input=x.value)


def _read_sigmoid(site: Site) -> View:
    fixed = _fixed(site)
    if (site.goal.held.scale, site.goal.held.zero_point) == (fixed.scale, fixed.zero_point):
        return _made(site, ops.Logistic)
    return _tabulated(site, logistic, "SIGMOID")


def _tabulated(site: Site, function: Callable[[Array], Array], called: str) -> View:
    """Add a table of what a function is for each of the 256 values."""
    x, goal = site.quantised(0), site.goal
    kind = x.type.quantization
    assert kind is not None
    steps = np.arange(256, dtype=np.uint8).view(x.type.dtype.numpy)
    real = function(dequantised(steps, QType(x.type.dtype, kind.scales, kind.zero_points)))
    entries = quantised(np.clip(real, goal.low, goal.high), goal.held).tobytes()
    site.target = dataclasses.replace(goal, low=-math.inf, high=math.inf)
    return site.computed(ops.Table, x.perm, input=x.value, entries=entries, function=called)


def _read_hard_swish(site: Site) -> View:
    x = site.quantised(0)
    site.require(
        site.goal.held.scale >= x.type.scale / 128, "output scale is below 1/128 of the input's"
    )
    return _made(site, ops.HardSwish)


def _read_leaky_relu(site: Site) -> View:
    x = site.retyped(site.quantised(0), site.goal.held.dtype)
    alpha = float(np.float32(site.number("alpha", 0.01)))
    return site.computed(ops.LeakyRelu, x.perm, input=x.value, alpha=alpha)


def _read_prelu(site: Site) -> View:
    dtype = site.goal.held.dtype
    x, slope = (site.retyped(site.quantised(i), dtype) for i in (0, 1))
    site.require(slope.rank <= x.rank, "its slope has more axes than the input")
    values, perm = common(site, [x, slope])
    return site.computed(ops.Prelu, perm, input=values[0], alpha=values[1])


# Softmax: over one axis, which must be the last one of the value ---------------------------------


def _read_softmax(site: Site) -> View:
    x = site.quantised(0)
    axes = _softmax_axes(site, x)
    if len(axes) > 1:
        return _over_several(site, x, axes)
    axis = axes[0]
    last = x if x.perm[-1] == axis else _with_last(site, x, axis)
    return _over_last(site, last)


def _over_several(site: Site, x: View, axes: list[int]) -> View:
    """Add a Softmax over the last axes as one."""
    x = site.arranged(x, plain(x.rank))
    shape = x.shape
    flat = dataclasses.replace(
        x.type, shape=(math.prod(shape[: axes[0]]), math.prod(shape[axes[0] :]))
    )
    name = f"{site.goal.name}/flat"
    value = site.emitter.emit(ops.Reshape, name, flat, input=x.value)
    goal = site.goal
    site.target = dataclasses.replace(goal, name=f"{goal.name}/softmax", number=-1)
    made = _over_last(site, View(value, (0, 1)))
    type_ = dataclasses.replace(made.type, shape=shape)
    full = site.emitter.emit(ops.Reshape, goal.name, type_, goal.index, input=made.value)
    site.target = goal
    return View(full, x.perm)


def _over_last(site: Site, last: View) -> View:
    x = site.retyped(last, site.goal.held.dtype)
    fixed, goal = _fixed(site), site.goal
    if (fixed.scale, fixed.zero_point) == (goal.held.scale, goal.held.zero_point):
        return site.computed(ops.Softmax, x.perm, input=x.value)
    if _STEP / goal.held.scale < _COARSE:
        name = f"{goal.name}/softmax"
        return site.finished(
            View(site.emitter.emit(ops.Softmax, name, fixed, input=x.value), x.perm)
        )
    real = TensorType(DType.FLOAT32, x.value.shape)
    numbers = site.emitter.emit(ops.Dequantize, f"{goal.name}/real", real, input=x.value)
    made = site.emitter.emit(ops.Softmax, f"{goal.name}/softmax", real, input=numbers)
    return site.finished(View(made, x.perm))


def _softmax_axes(site: Site, x: View) -> list[int]:
    """Return the axes; before operator set 13 all axes from it on were taken as one."""
    old = site.kind == "QLinearSoftmax" and site.integer("opset", 13) < 13
    old = old or (site.kind == "Softmax" and site.version < 13)
    axis = site.axis(site.integer("axis", 1 if old else -1), x.rank)
    if old:
        long = [a for a in range(axis, x.rank) if x.shape[a] != 1] or [axis]
        return long if len(long) == 1 else list(range(axis, x.rank))
    return [axis]


def _with_last(site: Site, x: View, axis: int) -> View:
    """Return a value whose last axis is this one."""
    order = [a for a in x.perm if a is not None and a != axis]
    if axis == x.rank - 1:
        return site.arranged(x, plain(x.rank))
    return site.arranged(x, (*order, axis))


# Clip: with bounds, alone between quantised tensors ----------------------------------------------


def _read_clip(site: Site) -> View:
    low, high = clip_bounds(site)
    goal = site.goal
    site.target = dataclasses.replace(
        goal, low=max(goal.low, min(low, goal.high)), high=min(goal.high, max(high, goal.low))
    )
    x = site.retyped(site.quantised(0), goal.held.dtype)
    kinds = {(0.0, math.inf): ops.Relu, (0.0, 6.0): ops.Relu6, (-1.0, 1.0): ops.ReluN1To1,
             (0.0, 1.0): ops.Relu0To1}  # fmt: skip
    kind = kinds.get((low, high))
    if kind is None or (goal.low, goal.high) != (-math.inf, math.inf):
        return site.finished(x)
    site.target = goal
    return site.computed(kind, x.perm, input=x.value)


def clip_bounds(site: Site) -> tuple[float, float]:
    """Return the bounds of a Clip: attributes before operator set 11, then operands."""
    found = []
    for place, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        data = site.constant(place, name)
        if data is None:
            value = site.node.attributes.get(name, default) if site.version < 11 else default
        else:
            site.require(data.size == 1, f"{name} has {data.size} numbers, must have 1")
            value = float(data.reshape(-1)[0])
        site.require(not math.isnan(value), f"{name} is not a number")
        found.append(float(value))
    return found[0], found[1]


ROWS = (
    Row(kind="Relu", read=_read_relu, classes=(ops.Relu,), note="or a clamp of what is before it"),
    Row(
        kind="Clip", read=_read_clip, classes=(ops.Relu, ops.Relu6, ops.ReluN1To1, ops.Relu0To1),
        note="or a clamp of what is before it", inputs=(1, 3),
    ),
    Row(
        kind="Sigmoid", read=_read_sigmoid, classes=(ops.Logistic, ops.Table),
    ),
    Row(
        kind="QLinearSigmoid", read=_read_sigmoid, classes=(ops.Logistic, ops.Table),
        domain=MICROSOFT, inputs=(4, 5), quantities=_UNARY,
    ),
    Row(kind="Tanh", read=_unary(ops.Tanh), classes=(ops.Tanh,)),
    Row(kind="HardSwish", read=_read_hard_swish, classes=(ops.HardSwish,)),
    Row(kind="LeakyRelu", read=_read_leaky_relu, classes=(ops.LeakyRelu,)),
    Row(
        kind="QLinearLeakyRelu", read=_read_leaky_relu, classes=(ops.LeakyRelu,), domain=MICROSOFT,
        inputs=(4, 5), quantities=_UNARY,
    ),
    Row(
        kind="PRelu", read=_read_prelu, classes=(ops.Prelu,), note="slope quantised",
        inputs=(2, 2),
    ),
    Row(kind="Softmax", read=_read_softmax, classes=(ops.Softmax,)),
    Row(
        kind="QLinearSoftmax", read=_read_softmax, classes=(ops.Softmax,), domain=MICROSOFT,
        inputs=(5, 5), quantities=_UNARY,
    ),
)  # fmt: skip
