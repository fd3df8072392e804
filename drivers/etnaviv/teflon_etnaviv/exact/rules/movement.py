"""Operations that move bytes: joins, cuts, other shapes and orders, padding."""

# Ref: docs/hardware/etnaviv.md sections 3.2 (field widths), 5.1 to 5.4 and 6.3

from __future__ import annotations

from teflon.ir.graph import Value
from teflon.ir.ops import (
    Concatenation,
    DepthToSpace,
    MirrorPad,
    Pack,
    Pad,
    Slice,
    SpaceToDepth,
    Split,
    SplitV,
    StridedSlice,
    Tile,
    Transpose,
    Unpack,
)
from teflon.ir.types import Activation, DType
from teflon_common.boxes import Joining, Reshaping
from teflon_common.layout import image_shape
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.moving import job_count, move_elements
from teflon_etnaviv.exact.rules.tensors import tensors
from teflon_etnaviv.tensors import Box, Layout
from teflon_etnaviv.tp.layouts import Detranspose

RULES = Rules[Chip, Lower]()

JOBS_MAX = 64
"""Jobs of one operation: more would cost more than the copies to the CPU and back."""

Cut = Split | SplitV | Unpack | Slice | StridedSlice
Rearranged = Transpose | SpaceToDepth | DepthToSpace | MirrorPad | Tile


@RULES.requires
def quantized_alike(op: Cut | Rearranged | Pack | Reshaping | Pad, chip: Chip) -> str | None:
    """Where bytes only move, inputs and outputs must have one quantisation."""
    return differs(op.inputs_present, op.results[0])


def differs(values: tuple[Value, ...], other: Value) -> str | None:
    """Name a value whose numbers mean something else than those of another one."""
    kind = other.type
    for value in values:
        mine = value.type
        if (mine.scale, mine.zero_point, mine.dtype) != (kind.scale, kind.zero_point, kind.dtype):
            return f"{value.name!r} is quantised otherwise than {other.name!r}"
    return None


@RULES.requires
def one_type(op: Concatenation, chip: Chip) -> str | None:
    """What is joined must have one element type."""
    found = next((v for v in op.inputs if v.type.dtype is not op.output.type.dtype), None)
    return f"{found.name!r} is {found.type.dtype.value}" if found else None


@RULES.requires
def few_jobs(op: Cut | Rearranged | Joining, chip: Chip) -> str | None:
    """What moves must be at most 64 boxes of evenly spaced elements."""
    count = job_count(op)
    return None if count <= JOBS_MAX else f"{count} boxes"


@RULES.requires
def no_activation(op: Concatenation, chip: Chip) -> str | None:
    """A concatenation must have no activation."""
    kind = op.activation
    return None if kind is Activation.NONE else f"activation is {kind.value.upper()}"


@RULES.requires
def constant_filler(op: Pad, chip: Chip) -> str | None:
    """What is filled in must be constant."""
    value = op.value
    return None if value is None or value.is_constant else f"{value.name!r} is computed"


@RULES.requires
def pad_axes(op: Pad, chip: Chip) -> str | None:
    """Padding must be of height, width and channels."""
    return "it pads the batch" if any((*op.before[:-3], *op.after[:-3])) else None


@RULES.requires
def countable_rows(op: Pad, chip: Chip) -> str | None:
    """Maps that are padded must have at most {tp_window_max} rows and columns, and as many bytes of
    a row where channels are padded.
    """
    for value in tensors(op):
        height, width, channels = (1, 1, *value.shape)[-3:]
        sizes = [height, width, *([width * channels] if op.before[-1] or op.after[-1] else [])]
        if max(sizes) > chip.tp_window_max:
            return f"{value.name!r} is {list(value.shape)}"
    return None


@RULES.lowers
def join(op: Joining, state: Lowering) -> None:
    """Let the parts live inside the whole where they lie there alike, else copy them."""
    move_elements(op, state, joins=True)


@RULES.lowers
def cut(op: Cut, state: Lowering) -> None:
    """Let the parts live inside the whole where they lie there alike, else copy them."""
    move_elements(op, state)


@RULES.lowers
def rearranged(op: Rearranged, state: Lowering) -> None:
    """Nothing where rows become planes or the other way round, else copies."""
    move_elements(op, state)


@RULES.lowers
def reshape(op: Reshaping, state: Lowering) -> None:
    """The same bytes: in rows, and in planes where pixels and channels stay what they are."""
    kept = image_shape(op.input.shape)[3] == image_shape(op.output.shape)[3]
    if kept and state.is_shuffled(op.input):
        source, order = state.planes(op.input)
        state.places[state.define_planes(op.output, order)] = (source, 0)
        return
    known = state.layouts(op.input)
    if not (kept and Layout.PLANES in known):
        state.get(op.input, Layout.ROWS)
        known = (Layout.ROWS,)
    for layout in known:
        tensor = state.get(op.input, layout)
        state.places[state.define(op.output, layout)] = (tensor, 0)


@RULES.lowers
def pad(op: Pad, state: Lowering) -> None:
    """Pad height and width in planes, channels in rows: never along the axis that jobs share."""
    before, after = _sides(op.before), _sides(op.after)
    layout = Layout.ROWS if before[2] or after[2] else Layout.PLANES
    if layout is Layout.ROWS and (before[0] or after[0]):
        _pad_twice(op, before, after, state)
        return
    if layout is Layout.PLANES:
        source, order = state.planes(op.input)
        target = state.define_planes(op.output, order)
    else:
        source, target = state.get(op.input, layout), state.define(op.output, layout)
    state.pad(op.where, source, target, layout, before, after, _filler(op))


def _filler(op: Pad) -> int | None:
    """Return the byte that is filled in, None for the zero point."""
    if op.value is None or op.value.data is None:
        return None
    signed = op.value.type.dtype is DType.INT8
    return (int(op.value.data.item()) + 128 * signed) & 0xFF


def _sides(amounts: tuple[int, ...]) -> Box:
    rows, columns, channels = (0, 0, *amounts)[-3:]
    return rows, columns, channels


def _pad_twice(op: Pad, before: Box, after: Box, state: Lowering) -> None:
    """Pad height and width, then bring the result into rows and pad its channels."""
    source, filler = state.get(op.input, Layout.PLANES), _filler(op)
    high, wide, channels = source.sizes
    high, wide = high + before[0] + after[0], wide + before[1] + after[1]
    middle = source.like(f"{op.where} (height, width)", (1, high, wide, channels))
    flat_before, flat_after = (before[0], before[1], 0), (after[0], after[1], 0)
    state.pad(op.where, source, middle, Layout.PLANES, flat_before, flat_after, filler)
    rows = middle.like(f"{op.where} (rows)")
    state.add(Detranspose(op.where, (middle,), (rows,)))
    target = state.define(op.output, Layout.ROWS)
    sides = (0, 0, before[2]), (0, 0, after[2])
    state.pad(op.where, rows, target, Layout.ROWS, *sides, filler)
