"""What Mesa takes of the operations that move bytes, and how it lowers them."""

# Ref: docs/hardware/etnaviv.md sections 5.4, 6.2, 6.3, 10.1

from __future__ import annotations

from teflon.ir.ops import Concatenation, Pad, Reshape, Split, Transpose
from teflon_common.rules import Rules
from teflon_etnaviv import tensors
from teflon_etnaviv.mesa import placements
from teflon_etnaviv.mesa.limits import Limits
from teflon_etnaviv.mesa.lowering import Layout, Layouts, Lower, Lowering
from teflon_etnaviv.operations import Operation
from teflon_etnaviv.tp import pad as tp

RULES = Rules[Limits, Lower]()


@RULES.requires
def last_axis(op: Concatenation | Split, limits: Limits) -> str | None:
    """The axis must be the last one of four."""
    if op.axis == 3 and op.results[0].type.rank == 4:
        return None
    return f"axis is {op.axis} of {op.results[0].type.rank}"


@RULES.requires
def pad_value(op: Pad, limits: Limits) -> str | None:
    """Padding must be with the zero point."""
    return None if op.value is None else "it has a value of its own"


@RULES.requires
def pad_axes(op: Pad, limits: Limits) -> str | None:
    """Padding must be of height, width and channels, in tensors of four axes."""
    if len(op.before) != 4:
        return f"the tensor has {len(op.before)} axes"
    return "it pads the batch" if op.before[0] or op.after[0] else None


@RULES.requires
def pad_amount(op: Pad, limits: Limits) -> str | None:
    """Padding must be at most {pad_max} on each side."""
    most = max((*op.before, *op.after), default=0)
    return None if most <= limits.pad_max else f"pads by {most}"


@RULES.requires
def layout_permutation(op: Transpose, limits: Limits) -> str | None:
    """A transposition must be (0, 3, 1, 2) or (0, 2, 3, 1)."""
    return None if op.perm in ((0, 3, 1, 2), (0, 2, 3, 1)) else f"it is {op.perm}"


@RULES.lowers
def concatenation(op: Concatenation, state: Lowering) -> Operation:
    """Place the parts, which are in planes, in the whole."""
    parts = tuple(state.read_planes(op, value) for value in op.inputs)
    return placements.Concat(op.where, parts, (state.tensor(op.output),))


@RULES.lowers
def split(op: Split, state: Lowering) -> Operation:
    """Place the parts in the whole, as if it were in planes (B14)."""
    targets = tuple(state.tensor(value) for value in op.outputs)
    return placements.Split(op.where, (state.read(op.input),), targets)


@RULES.lowers
def reshape(op: Reshape, state: Lowering) -> Operation:
    """Take the bytes as they are, in planes too (B13)."""
    return placements.Bypass(op.where, (state.read(op.input),), (state.tensor(op.output),))


@RULES.lowers
def transpose(op: Transpose, state: Lowering) -> Operation:
    """Take the bytes as they are, and the result for planes."""
    target = state.tensor(op.output)
    state.layouts[target] = Layouts(Layout.NCHW, Layout.NCHW)
    return placements.Bypass(op.where, (state.read(op.input),), (target,))


@RULES.lowers
def pad(op: Pad, state: Lowering) -> Operation:
    """Take an input for planes only where its users expect it in rows."""
    source = state.read(op.input)
    layout = state.layout(source)
    planar = (layout.expected, layout.actual) == (Layout.NHWC, Layout.NCHW)
    lies = tensors.Layout.PLANES if planar else tensors.Layout.ROWS
    before, after = (lies.box(op.before[-3:]), lies.box(op.after[-3:]))
    jobs = 1 if source.shape[1] == 1 else state.chip.tp_core_count
    size = lies.box(source.sizes)
    return tp.Pad(op.where, (source,), (state.tensor(op.output),), size, before, after, jobs)
