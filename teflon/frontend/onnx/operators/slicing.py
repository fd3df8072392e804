"""Take parts of a tensor."""

from __future__ import annotations

import dataclasses

import numpy as np

from teflon.frontend.onnx.layout import Perm, View, plain
from teflon.frontend.onnx.operators.row import Row
from teflon.frontend.onnx.site import Site
from teflon.ir import Value, ops
from teflon.ir.types import DType, TensorType


def _read_slice(site: Site) -> View:
    x = site.moved(0)
    begin, end, stride = _box(site, x)
    sizes = [max(0, -((b - e) // s)) for b, e, s in zip(begin, end, stride, strict=True)]
    site.require(min(sizes, default=1) > 0, "takes nothing")
    if set(stride) <= {1}:
        return site.moving(
            ops.Slice, x, x.perm, input=x.value, begin=x.spread(begin, 0), size=x.spread(sizes, 1)
        )
    return site.moving(
        ops.StridedSlice, x, x.perm, input=x.value, begin=x.spread(begin, 0),
        end=x.spread(end, 1), strides=x.spread(stride, 1),
    )  # fmt: skip


def _box(site: Site, x: View) -> tuple[list[int], list[int], list[int]]:
    """Return begin, end and step for each axis; end -1 with a step back is *past the first*."""
    if site.version < 10:
        starts, ends = site.integers("starts"), site.integers("ends")
        axes, steps = site.integers("axes"), None
    else:
        starts, ends = site.whole(1, "starts"), site.whole(2, "ends")
        axes, steps = site.whole(3, "axes"), site.whole(4, "steps")
    if starts is None or ends is None:
        site.unread("starts or ends are absent, must be there")
    named = list(range(len(starts))) if axes is None else [site.axis(a, x.rank) for a in axes]
    steps = (1,) * len(starts) if steps is None else steps
    site.require(
        len(starts) == len(ends) == len(named) == len(steps) and len(named) <= x.rank,
        "starts, ends, axes and steps differ in length, must have one",
    )
    site.require(0 not in steps, "a step is 0, must not be")
    begin, end, stride = [0] * x.rank, list(x.shape), [1] * x.rank
    for axis, start, stop, step in zip(named, starts, ends, steps, strict=True):
        begin[axis], end[axis], stride[axis] = slice(start, stop, step).indices(x.shape[axis])
    return begin, end, stride


def _read_gather(site: Site) -> View:
    x = site.moved(0)
    axis = site.axis(site.integer("axis", 0), x.rank)
    positions = _positions(site, x.shape[axis])
    place, more = x.place(axis), positions.type.rank
    behind = [_shifted(a, axis, more) for a in x.perm[place + 1 :]]
    before = [_shifted(a, axis, more) for a in x.perm[:place]]
    perm: Perm = (*before, *range(axis, axis + more), *behind)
    return site.moving(
        ops.Gather, x, perm, input=x.value, positions=positions, axis=place
    )  # fmt: skip


def _shifted(axis: int | None, gathered: int, more: int) -> int | None:
    """Return an axis of the result for one that is not gathered along."""
    return axis if axis is None or axis < gathered else axis + more - 1


def _positions(site: Site, size: int) -> Value:
    """Return constant positions counted from the front; computed ones may count from the back."""
    tensor = site.operand(1)
    data = tensor.data
    if data is None:
        site.unread("positions are computed, must be constant")
    site.require(data.dtype.kind == "i" and data.size > 0, "positions must be whole numbers")
    inside = bool(((data >= -size) & (data < size)).all())
    site.require(inside, f"positions must be within {-size} to {size - 1}")
    return site.emitter.constant(np.where(data < 0, data + size, data), tensor.name)


def _read_expand(site: Site) -> View:
    """Read Expand as a Tile."""
    x = site.moved(0)
    wanted = site.whole(1, "shape")
    if wanted is None:
        site.unread("shape is absent, must be there")
    site.require(len(wanted) <= x.rank, f"shape {list(wanted)} adds axes")
    wanted = (1,) * (x.rank - len(wanted)) + wanted
    pairs = list(zip(x.shape, wanted, strict=True))
    good = all(want in (1, have) or (have == 1 and want > 0) for have, want in pairs)
    site.require(good, f"{list(x.shape)} cannot become {list(wanted)}")
    repeats = [want if have == 1 else 1 for have, want in pairs]
    if set(repeats) == {1}:
        return x
    return site.moving(ops.Tile, x, x.perm, input=x.value, multiples=x.spread(repeats, 1))


def _read_arg_max(site: Site) -> View:
    return _place_of(site, ops.ArgMax)


def _read_arg_min(site: Site) -> View:
    return _place_of(site, ops.ArgMin)


def _place_of(site: Site, kind: type[ops.ArgMax | ops.ArgMin]) -> View:
    x = site.moved(0)
    eight = x.type.dtype in (DType.UINT8, DType.INT8)
    site.require(eight, f"input is {x.type.dtype.value}, must be u8 or i8")
    site.require(not site.integer("select_last_index", 0), "takes the last of equal ones")
    axis = site.axis(site.integer("axis", 0), x.rank)
    type_ = TensorType(DType.INT64, ())
    kept = [a for a in range(x.rank) if a != axis]
    perm: Perm = tuple(None if a is None else kept.index(a) for a in x.perm if a != axis)
    result = site.results[0]
    number = -1 if result is None else result.number
    name = site.node.outputs[0]
    keep = site.integer("keepdims", 1)
    made = site.emitter.emit(
        kind, name, type_, -1 if keep else number, perm, input=x.value, axis=x.place(axis)
    )
    if not keep:
        return View(made, perm)
    flat = site.arranged(View(made, perm), plain(len(kept)))
    shape = tuple(1 if a == axis else x.shape[a] for a in range(x.rank))
    full = dataclasses.replace(type_, shape=shape)
    return View(site.emitter.emit(ops.Reshape, name, full, number, input=flat.value), plain(x.rank))


ROWS = (
    Row(
        kind="Slice", read=_read_slice, classes=(ops.Slice, ops.StridedSlice), moves=True,
        note="constant bounds", inputs=(1, 5),
    ),
    Row(
        kind="Gather", read=_read_gather, classes=(ops.Gather,), moves=True,
        note="constant positions", inputs=(2, 2),
    ),
    Row(
        kind="Expand", read=_read_expand, classes=(ops.Tile,), moves=True, note="constant shape",
        inputs=(2, 2),
    ),
    Row(kind="ArgMax", read=_read_arg_max, classes=(ops.ArgMax,), note="the first of equal ones"),
    Row(kind="ArgMin", read=_read_arg_min, classes=(ops.ArgMin,), note="the first of equal ones"),
)  # fmt: skip
