"""Operations that move bytes: joins, splits, other shapes and orders, padding."""

# Ref: docs/hardware/etnaviv.md sections 3.2 (field widths), 5.4 and 6.3

from __future__ import annotations

import math

from teflon.ir.graph import Value
from teflon.ir.ops import Concatenation, Pad, Reshape, Split, Transpose
from teflon.ir.types import Activation
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules.tensors import tensors, too_wide
from teflon_etnaviv.tensors import Box, Layout, Tensor
from teflon_etnaviv.tp.layouts import Detranspose

RULES = Rules[Chip, Lower]()

TO_PLANES, TO_ROWS = (0, 3, 1, 2), (0, 2, 3, 1)
"""The permutations that change from NHWC to NCHW, and back."""


def _whole(op: Concatenation | Split) -> Value:
    """Return the tensor that the parts make up."""
    return op.output if isinstance(op, Concatenation) else op.input


def _joins_in_rows(op: Concatenation | Split) -> bool:
    """Whether the axis is the outermost one: joining along it joins the bytes of rows."""
    return math.prod(_whole(op).shape[: op.axis]) == 1


@RULES.requires
def quantized_alike(op: Split | Reshape | Pad | Transpose, chip: Chip) -> str | None:
    """Where bytes only move, inputs and outputs must have one quantisation."""
    first = op.results[0]
    for value in (*op.inputs_present, *op.results):
        mine, other = value.type, first.type
        if (mine.scale, mine.zero_point, mine.dtype) != (
            other.scale, other.zero_point, other.dtype,
        ):  # fmt: skip
            return f"{value.name!r} is quantised otherwise than {first.name!r}"
    return None


@RULES.requires
def countable_rows(op: Concatenation | Split | Pad | Transpose, chip: Chip) -> str | None:
    """Rows that change their layout must have at most {tp_image_max} bytes, maps that many rows."""
    if isinstance(op, Concatenation | Split) and _joins_in_rows(op):
        return None
    return too_wide(tensors(op), chip)


@RULES.requires
def no_activation(op: Concatenation, chip: Chip) -> str | None:
    """A concatenation must have no activation."""
    kind = op.activation
    return None if kind is Activation.NONE else f"activation is {kind.value.upper()}"


@RULES.requires
def axis(op: Concatenation | Split, chip: Chip) -> str | None:
    """The axis must be the channels of four axes, or the outermost one."""
    rank = len(_whole(op).shape)
    last = op.axis == rank - 1 and rank == 4
    return None if last or _joins_in_rows(op) else f"axis is {op.axis}"


@RULES.requires
def pad_value(op: Pad, chip: Chip) -> str | None:
    """Padding must be with the zero point."""
    return None if op.value is None else "it has a value of its own"


@RULES.requires
def pad_axes(op: Pad, chip: Chip) -> str | None:
    """Padding must be of height, width and channels."""
    if len(op.before) < 3:
        return f"the tensor has {len(op.before)} axes"
    return "it pads the batch" if any((*op.before[:-3], *op.after[:-3])) else None


@RULES.requires
def layout_permutation(op: Transpose, chip: Chip) -> str | None:
    """A transposition must be (0, 3, 1, 2) or (0, 2, 3, 1)."""
    return None if op.perm in (TO_PLANES, TO_ROWS) else f"it is {op.perm}"


@RULES.lowers
def concatenation(op: Concatenation, state: Lowering) -> None:
    """Let the parts live inside the whole."""
    layout = Layout.ROWS if _joins_in_rows(op) else Layout.PLANES
    sources = [state.get(value, layout) for value in op.inputs]
    target = state.define(op.output, layout)
    offset = 0
    for source in sources:
        state.live_inside(state.requantised(source, target), target, offset)
        offset += source.size_bytes


@RULES.lowers
def split(op: Split, state: Lowering) -> None:
    """Let the parts live inside the whole."""
    layout = Layout.ROWS if _joins_in_rows(op) else Layout.PLANES
    source = state.get(op.input, layout)
    offset = 0
    for value in op.outputs:
        target = state.define(value, layout)
        state.places[target] = (source, offset)
        offset += target.size_bytes


def _same_bytes(source: Tensor, value: Value, layout: Layout, state: Lowering) -> None:
    """Let a value be the bytes of a tensor, in this layout."""
    state.places[state.define(value, layout)] = (source, 0)


@RULES.lowers
def reshape(op: Reshape, state: Lowering) -> None:
    """The same bytes in rows."""
    source, order = state.rows(op.input)
    if order is not None and op.output.shape[-1] != len(order):
        source, order = state.get(op.input, Layout.ROWS), None
    state.places[state.define_planes(op.output, order, Layout.ROWS)] = (source, 0)


@RULES.lowers
def transpose(op: Transpose, state: Lowering) -> None:
    """To channels first: the planes are the result's rows; back: the rows are its planes."""
    layout = Layout.PLANES if op.perm == TO_PLANES else Layout.ROWS
    _same_bytes(state.get(op.input, layout), op.output, layout.other, state)


@RULES.lowers
def pad(op: Pad, state: Lowering) -> None:
    """Pad height and width in planes, channels in rows: never along the axis that jobs share."""
    before, after = _sides(op.before), _sides(op.after)
    layout = Layout.ROWS if before[2] or after[2] else Layout.PLANES
    if layout is Layout.ROWS and (before[0] or after[0]):
        _pad_twice(op, before, after, state)
        return
    source = state.get(op.input, layout)
    state.pad(op.where, source, state.define(op.output, layout), layout, before, after)


def _sides(amounts: tuple[int, ...]) -> Box:
    rows, columns, channels = amounts[-3:]
    return rows, columns, channels


def _pad_twice(op: Pad, before: Box, after: Box, state: Lowering) -> None:
    """Pad height and width, then bring the result into rows and pad its channels."""
    source = state.get(op.input, Layout.PLANES)
    high, wide, channels = source.sizes
    high, wide = high + before[0] + after[0], wide + before[1] + after[1]
    middle = source.like(f"{op.where} (height, width)", (1, high, wide, channels))
    flat_before, flat_after = (before[0], before[1], 0), (after[0], after[1], 0)
    state.pad(op.where, source, middle, Layout.PLANES, flat_before, flat_after)
    rows = middle.like(f"{op.where} (rows)")
    state.add(Detranspose(op.where, (middle,), (rows,)))
    target = state.define(op.output, Layout.ROWS)
    state.pad(op.where, rows, target, Layout.ROWS, (0, 0, before[2]), (0, 0, after[2]))
