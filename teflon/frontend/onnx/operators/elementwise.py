"""Two operands, element by element, each with its own scale."""

from __future__ import annotations

from teflon.frontend.onnx.layout import Perm, View, plain
from teflon.frontend.onnx.operators.row import MICROSOFT, Quantities, Read, Row
from teflon.frontend.onnx.site import Site
from teflon.ir import Op, Value, ops


def common(site: Site, views: list[View]) -> tuple[list[Value], Perm]:
    """Return the operands in one order of axes, that of the largest computed one."""
    rank = max(v.rank for v in views)
    computed = [v for v in views if not v.value.is_constant] or views
    leader = max(computed, key=lambda v: (v.rank == rank, v.type.size))
    perm = leader.perm if leader.rank == rank else plain(rank)
    return [_in_order(site, v, perm, rank) for v in views], perm


def _in_order(site: Site, view: View, perm: Perm, rank: int) -> Value:
    """Return an operand of perhaps fewer axes in the order of the others."""
    lacking = rank - view.rank
    if lacking and perm == plain(rank):
        return site.arranged(view, plain(view.rank)).value
    order = tuple(None if a is None or a < lacking else a - lacking for a in perm)
    value = site.arranged(view, order).value
    if not value.is_constant or not lacking:
        return value
    return _with_rank(site, value, view.rank)


def _with_rank(site: Site, value: Value, rank: int) -> Value:
    """Return a constant without leading axes of one, as far as the file's had fewer."""
    shape = value.shape
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    if shape == value.shape or value.data is None:
        return value
    kind = value.type.quantization
    return site.emitter.constant(value.data.reshape(shape), value.name, kind)


def _arithmetic(kind: type[Op]) -> Read:
    def read(site: Site) -> View:
        a, b = site.quantised(0), site.quantised(1)
        dtype = site.goal.held.dtype
        values, perm = common(site, [site.retyped(v, dtype) for v in (a, b)])
        return site.computed(kind, perm, a=values[0], b=values[1])

    return read


def _choice(kind: type[Op]) -> Read:
    """Read Max or Min: rounding does not change an order, so operands are rescaled first."""

    def read(site: Site) -> View:
        goal = site.goal_type
        count = len(site.operands)
        views = [site.requantised(site.quantised(i), goal) for i in range(count)]
        values, perm = common(site, views)
        value = values[0]
        for other in values[1:-1]:
            value = site.emitter.emit(kind, f"{site.goal.name}/part", goal, a=value, b=other)
        return site.computed(kind, perm, a=value, b=values[-1])

    return read


def _pair(kind: str, made: type[Op]) -> Row:
    return Row(
        kind=kind, read=_arithmetic(made), classes=(made,), note="both quantised", inputs=(2, 2)
    )


def _pair_of_steps(kind: str, made: type[Op]) -> Row:
    return Row(
        kind=kind, read=_arithmetic(made), classes=(made,), domain=MICROSOFT, inputs=(7, 8),
        quantities=Quantities(((0, 1, 2), (3, 4, 5)), (6, 7)),
    )  # fmt: skip


ROWS = (
    _pair("Add", ops.Add),
    _pair("Sub", ops.Sub),
    _pair("Mul", ops.Mul),
    _pair_of_steps("QLinearAdd", ops.Add),
    _pair_of_steps("QLinearMul", ops.Mul),
    Row(kind="Max", read=_choice(ops.Maximum), classes=(ops.Maximum,), inputs=(2, 64)),
    Row(kind="Min", read=_choice(ops.Minimum), classes=(ops.Minimum,), inputs=(2, 64)),
)
