"""Reduce axes to one value each."""

from __future__ import annotations

from typing import Any

from teflon.frontend.onnx.layout import Perm, View
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities, Row
from teflon.frontend.onnx.site import Site
from teflon.ir import ops


def _axes(site: Site, x: View, since: int) -> tuple[int, ...]:
    """Return the axes, an attribute before operator set `since` and an operand from it on."""
    named = site.integers("axes") if site.version < since else site.whole(1, "axes")
    if not named:
        skips = site.integer("noop_with_empty_axes", 0)
        site.require(not skips, "has no axes and does nothing")
        return tuple(range(x.rank))
    return site.axes(named, x.rank)


def _kept(x: View, axes: tuple[int, ...]) -> Perm:
    """Return the order of the axes that stay."""
    rest = [a for a in range(x.rank) if a not in axes]
    return tuple(None if a is None else rest.index(a) for a in x.perm if a not in axes)


def _fields(site: Site, x: View, since: int) -> tuple[Perm, dict[str, Any]]:
    axes = _axes(site, x, since)
    keep = bool(site.integer("keepdims", 1))
    places = tuple(sorted(x.place(axis) for axis in axes))
    return x.perm if keep else _kept(x, axes), {"axes": places, "keep_dims": keep}


def _read_mean(site: Site) -> View:
    x = site.retyped(site.quantised(0), site.goal.held.dtype)
    perm, fields = _fields(site, x, 1 << 30 if site.kind.startswith("QLinear") else 18)
    return site.computed(ops.Mean, perm, input=x.value, **fields)


def _read_sum(site: Site) -> View:
    x = site.retyped(site.quantised(0), site.goal.held.dtype)
    perm, fields = _fields(site, x, 13)
    return site.computed(ops.Sum, perm, input=x.value, **fields)


def _read_max(site: Site) -> View:
    return _extreme(site, ops.ReduceMax)


def _read_min(site: Site) -> View:
    return _extreme(site, ops.ReduceMin)


def _extreme(site: Site, kind: type[ops.ReduceMax | ops.ReduceMin]) -> View:
    x = site.quantised(0)
    perm, fields = _fields(site, x, 18)
    return site.moving(kind, x, perm, input=x.value, **fields)


ROWS = (
    Row(kind="ReduceMean", read=_read_mean, classes=(ops.Mean,), inputs=(1, 2)),
    Row(
        kind="QLinearReduceMean", read=_read_mean, classes=(ops.Mean,), domain=MICROSOFT,
        inputs=(4, 5), quantities=Quantities(((0, 1, 2),), (3, 4)),
    ),
    Row(kind="ReduceSum", read=_read_sum, classes=(ops.Sum,), inputs=(1, 2)),
    Row(kind="ReduceMax", read=_read_max, classes=(ops.ReduceMax,), moves=True, inputs=(1, 2)),
    Row(kind="ReduceMin", read=_read_min, classes=(ops.ReduceMin,), moves=True, inputs=(1, 2)),
)  # fmt: skip
