"""Sums and differences of two tensors on the NN cores."""

# Ref: docs/hardware/etnaviv.md sections 3.1 (field widths) and 4.9

from __future__ import annotations

import math

from teflon.ir.ops import Add, Sub
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.layers import activation
from teflon_etnaviv.exact.layers.sums import addition, sum_shape
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.tensors import Layout

RULES = Rules[Chip, Lower]()

Sum = Add | Sub


@RULES.requires
def no_upper_clamp(op: Sum, chip: Chip) -> str | None:
    """An activation must let through up to the largest value of its type."""
    return activation.clamps_above(op)


@RULES.requires
def clamp_at_zero(op: Sum, chip: Chip) -> str | None:
    """A lower clamp must be at the zero point."""
    return activation.clamps_off_zero(op)


@RULES.requires
def same_shape(op: Sum, chip: Chip) -> str | None:
    """Both operands of a sum must have the result's shape."""
    if op.a.shape == op.b.shape == op.output.shape:
        return None
    return f"shapes are {list(op.a.shape)} and {list(op.b.shape)}"


@RULES.requires
def foldable(op: Sum, chip: Chip) -> str | None:
    """The elements of a sum must fold into images that the cores can count."""
    count = math.prod(op.a.shape)
    return None if sum_shape(count, chip) is not None else f"{count} elements"


@RULES.lowers
def sum_(op: Sum, state: Lowering) -> None:
    """Run on both operands' bytes, one behind the other, in a layout that one of them has."""
    both = {state.any_layout(op.a), state.any_layout(op.b)}
    layout = Layout.PLANES if Layout.PLANES in both else Layout.ROWS
    a, b = state.get(op.a, layout), state.get(op.b, layout)
    pair = a.like(f"{op.where} (operands)", (1, 1, 1, a.size_bytes + b.size_bytes))
    a = state.live_inside(a, pair, 0)
    b = state.live_inside(b, pair, a.size_bytes)
    target = state.define(op.output, layout)
    state.add(NN(op.where, (a, b), (target,), addition(op, state.chip), CODING))
