"""Sums and differences on the NN cores; functions of one tensor in tables on the TP cores."""

# Ref: docs/hardware/etnaviv.md sections 3.1 (field widths) and 4.9

from __future__ import annotations

import math

from teflon.ir.ops import Add, Sub
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import channels, functions
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.layers.sums import addition, halves, sum_shape
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules import convolutions
from teflon_etnaviv.exact.rules.tables import several_tables
from teflon_etnaviv.exact.rules.tensors import uncountable
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.tensors import Layout, Tensor

RULES = Rules[Chip, Lower]()

Sum = Add | Sub


@RULES.requires_first
def shapes(op: Sum, chip: Chip) -> str | None:
    """Operands of a sum must have the result's shape; or one is a constant, of one number or of one
    for each channel of four axes.
    """
    if functions.operand(op) is not None or channels.pair(op) is not None:
        return None
    if op.a.shape == op.b.shape == op.output.shape and not op.a.is_constant | op.b.is_constant:
        return None
    return f"shapes are {list(op.a.shape)} and {list(op.b.shape)}"


@RULES.requires
def foldable(op: Sum, chip: Chip) -> str | None:
    """The elements of a sum must fold into images that the cores can count."""
    if functions.operand(op) is not None:
        return several_tables(op, chip)
    if channels.pair(op) is not None:
        return None
    count = math.prod(op.a.shape)
    return None if sum_shape(count, chip) is not None else f"{count} elements"


@RULES.requires
def countable(op: Sum, chip: Chip) -> str | None:
    """Rows, columns and channels of tensors must be at most {tp_image_max}: TP cores count them."""
    return uncountable([op.output], chip)


@RULES.requires
def with_channels(op: Sum, chip: Chip) -> str | None:
    """What adds a constant to each channel must be a convolution that the cores run."""
    if functions.operand(op) is not None or channels.pair(op) is None:
        return None
    try:
        return "; ".join(convolutions.RULES.reasons(channels.convolution(op), chip)) or None
    except OverflowError as error:
        return str(error)


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
    if functions.operand(op) is not None:
        state.tabulate(op)
    elif channels.pair(op) is not None:
        convolutions.convolution(channels.convolution(op), state)
    else:
        _added(op, state)


def _added(op: Sum, state: Lowering) -> None:
    both = {state.any_layout(op.a), state.any_layout(op.b)}
    layout = Layout.PLANES if Layout.PLANES in both else Layout.ROWS
    made = halves(Tensor.of(op.a), Tensor.of(op.b), Tensor.of(op.output))
    a = state.mapped(op.where, state.get(op.a, layout), made.a)
    b = state.mapped(op.where, state.get(op.b, layout), made.b)
    pair = a.like(f"{op.where} (operands)", (1, 1, 1, a.size_bytes + b.size_bytes))
    a = state.live_inside(a, pair, 0)
    b = state.live_inside(b, pair, a.size_bytes)
    target = state.define(op.output, layout)
    written = state.unclamped(op, target)
    state.add(NN(op.where, (a, b), (written,), addition(op, state.chip), CODING))
    state.clamp(op, written, target)
