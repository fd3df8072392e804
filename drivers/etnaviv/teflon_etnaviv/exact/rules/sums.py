"""Sums and differences on the NN cores; functions of one tensor in tables on the TP cores."""

# Ref: docs/hardware/etnaviv.md sections 3.1 (field widths) and 4.9

from __future__ import annotations

import numpy as np

from teflon.ir.ops import Add, Sub
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import channels, functions, repeats
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.grouping import joined
from teflon_etnaviv.exact.grouping.kernels import Order
from teflon_etnaviv.exact.layers.sums import addition, halves
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules import pairs
from teflon_etnaviv.exact.rules.tensors import uncountable
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.tensors import Layout, Tensor

RULES = Rules[Chip, Lower]()

Sum = Add | Sub
Ordered = tuple[Tensor, Order | None]


@RULES.requires_first
def shapes(op: Sum, chip: Chip) -> str | None:
    """Operands of a sum must have the result's shape, lack its first axes or have one channel, with
    at most {tp_image_max} elements and repeated as often at most; or one is a constant, which may
    lack its first axes.
    """
    return pairs.shapes(op, chip)


@RULES.requires
def foldable(op: Sum, chip: Chip) -> str | None:
    """The elements of a sum must fold into images that the cores can count."""
    return pairs.foldable(op, chip)


@RULES.requires
def countable(op: Sum, chip: Chip) -> str | None:
    """Rows, columns and channels of tensors must be at most {tp_image_max}: TP cores count them."""
    return uncountable([op.output], chip)


@RULES.requires
def with_channels(op: Sum, chip: Chip) -> str | None:
    """What adds a constant to each channel must be a convolution that the cores run."""
    return pairs.with_channels(op, chip)


@RULES.requires
def fine_enough(op: Sum, chip: Chip) -> str | None:
    """The scale of a tensor that gets a constant for each channel must be at most 100 times the
    result's.
    """
    found = None if functions.operand(op) is not None else channels.pair(op)
    if found is None or found[0].type.scale <= 100 * op.output.type.scale:
        return None
    return f"{found[0].type.scale:g} and {op.output.type.scale:g}"


@RULES.lowers
def sum_(op: Sum, state: Lowering) -> None:
    """A table for one tensor, a convolution for constants of channels; two tensors' bytes, one
    behind the other, in a layout that one of them has.
    """
    pairs.lower(op, state, _added)


def _added(op: Sum, state: Lowering) -> None:
    (a, order), (b, other), layout = _operands(op, state)
    mixed = order is not other and not np.array_equal(order, other)  # type: ignore[arg-type]
    made = halves(Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output))
    a, b = state.mapped(op.where, a, made.a), state.mapped(op.where, b, made.b)
    pair = a.like(f"{op.where} (operands)", (1, 1, 1, a.size_bytes + b.size_bytes))
    a = state.live_inside(a, pair, 0)
    b = state.live_inside(b, pair, a.size_bytes)
    layer = addition(op, state.chip)
    if mixed:
        layer = joined.by_channels(layer, Tensor.of(op.output), order, other)
    target = state.define_planes(op.output, None if mixed else order, layout)
    written = state.unclamped(op, target)
    state.add(NN(op.where, (a, b), (written,), layer, CODING))
    state.clamp(op, written, target)


def _operands(op: Sum, state: Lowering) -> tuple[Ordered, Ordered, Layout]:
    """Return both operands in one layout; in planes in the orders in which they lie, unless one
    must be repeated.
    """
    if repeats.layout(op.a, op.b, op.output.shape) is None:
        planes = Layout.PLANES in {state.any_layout(op.a), state.any_layout(op.b)}
        if planes and joined.fits(Tensor.of(op.output), state.chip):
            return state.planes(op.a), state.planes(op.b), Layout.PLANES
    a, b, layout = state.operands(op)
    return (a, None), (b, None), layout
