"""Join several tensors to one, cut one into several."""

from __future__ import annotations

from typing import Any

from teflon.frontend.onnx.layout import View
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities, Row
from teflon.frontend.onnx.site import Site
from teflon.ir import ops
from teflon.ir.types import DType, TensorType


def _read_concat(site: Site) -> View:
    count = len(site.operands)
    views = [site.moved(i) for i in range(count)]
    rank = views[0].rank
    site.require(all(v.rank == rank for v in views), "operands have several ranks, must have one")
    axis = site.axis(site.integer("axis", 1 if site.version < 4 else 0), rank)
    types = {(v.type.dtype, v.type.quantization) for v in views}
    if len(types) == 1:
        return _joined(site, views, axis)
    site.require(all(v.type.quantization for v in views), "operands are of several types")
    return _rescaled(site, axis)


def _joined(site: Site, views: list[View], axis: int) -> View:
    """Join operands of one scale, which the result has too."""
    perm = _leader(views).perm
    values = tuple(site.arranged(v, perm).value for v in views)
    joined: dict[str, Any] = {"inputs": values, "axis": perm.index(axis)}
    target = site.target
    if (
        target is not None
        and target.held.dtype is DType.UINT8 is views[0].type.dtype
        and not _same(site.goal_type, views[0].type)
    ):
        return site.computed(ops.Concatenation, perm, **joined)
    return site.moving(ops.Concatenation, views[0], perm, **joined)


def _rescaled(site: Site, axis: int) -> View:
    """Join operands of several scales. TFLite's operation rescales unsigned ones itself."""
    views = [site.quantised(i) for i in range(len(site.operands))]
    like = site.goal_type
    dtype = like.dtype
    if dtype is DType.UINT8:
        views = [site.retyped(v, dtype) for v in views]
    else:
        views = [site.requantised(v, like) for v in views]
    perm = _leader(views).perm
    values = tuple(site.arranged(v, perm).value for v in views)
    return site.computed(ops.Concatenation, perm, inputs=values, axis=perm.index(axis))


def _leader(views: list[View]) -> View:
    computed = [v for v in views if not v.value.is_constant] or views
    return max(computed, key=lambda v: v.type.size)


def _same(a: TensorType, b: TensorType) -> bool:
    return (a.dtype, a.quantization) == (b.dtype, b.quantization)


def _read_split(site: Site) -> list[View]:
    x = site.moved(0)
    axis = site.axis(site.integer("axis", 0), x.rank)
    count, whole = len(site.results), x.shape[axis]
    site.require(all(r is not None for r in site.results), "has results without a name")
    sizes = site.integers("split") if site.version < 13 else site.whole(1, "split")
    if sizes is None:
        part = -(-whole // count)
        sizes = (*(part,) * (count - 1), whole - part * (count - 1))
    site.require(
        len(sizes) == count and min(sizes) > 0 and sum(sizes) == whole,
        f"sizes are {list(sizes)}, must be {count} numbers that add up to {whole}",
    )
    names = [site.result_name(x, i) for i in range(count)]
    place = x.place(axis)
    fields = {"input": x.value, "axis": place}
    if len(set(sizes)) == 1:
        made = site.emitter.emit_all(ops.Split, names, x.type, x.perm, **fields)
    else:
        made = site.emitter.emit_all(ops.SplitV, names, x.type, x.perm, sizes=sizes, **fields)
    return [View(value, x.perm) for value in made]


ROWS = (
    Row(
        kind="Concat", read=_read_concat, classes=(ops.Concatenation,), moves=True,
        note="other scales are rescaled", inputs=(1, 1 << 16),
    ),
    Row(
        kind="QLinearConcat", read=_read_concat, classes=(ops.Concatenation,), domain=MICROSOFT,
        inputs=(5, 1 << 16), quantities=Quantities(((2, 3, 4),), (0, 1), repeated=True),
    ),
    Row(
        kind="Split", read=_read_split, classes=(ops.Split, ops.SplitV), moves=True,
        note="constant sizes", inputs=(1, 2),
    ),
)  # fmt: skip
