"""Lowering of operations that only move elements: by places where that does, else by TP jobs.

A result that lies alike in one of its operand's tensors is a part of that tensor, and an operand
that lies alike in the result becomes a part of the result: nothing is copied. All other elements
are copied by jobs of the TP cores, from the layouts and into the layout for which the fewest are
needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import AveragePool2D, Conv2D, DepthwiseConv2D, MaxPool2D, TransposeConv
from teflon_etnaviv.exact.copies import Copy, Copying, copies
from teflon_etnaviv.exact.grouping.kernels import Order
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.views import View
from teflon_etnaviv.tensors import Layout, Tensor
from teflon_etnaviv.tp.pieces import Piece

_CHANGED = 1.5
"""What another layout of a tensor counts as, in copies of the whole tensor."""
_UNWANTED = 1.0
"""What a result counts in a layout that its readers have to change."""

_IN_PLANES = (AveragePool2D, Conv2D, DepthwiseConv2D, MaxPool2D, TransposeConv)
"""Operations that read planes; all others take what there is, or rows."""

BOTH = (Layout.PLANES, Layout.ROWS)


def job_count(op: Copying) -> int:
    """Return how many jobs an operation takes where all tensors are in rows."""
    found = 0
    for copy in copies(op):
        source, target = _views(copy, Layout.ROWS, Layout.ROWS)
        found += len(source.pieces(target))
    return found


def _views(copy: Copy, source: Layout, target: Layout) -> tuple[View, View]:
    """Return what is copied as views of both tensors in these layouts."""
    taken = copy.taken(View.of(copy.source.shape, source))
    return taken, copy.put(View.of(copy.target.shape, target))


def move_elements(op: Copying, state: Lowering, joins: bool = False) -> None:
    """Lower an operation; joins: operands may become parts of the result."""
    for _, some in groupby(copies(op), key=lambda copy: copy.target):
        copy_elements(op.where, list(some), state, joins)


def _is_part(copy: Copy, state: Lowering) -> bool:
    """Let a result be a part of its operand where it lies there as it would by itself."""
    if math.prod(copy.target.shape) == 0:
        return False
    if state.is_shuffled(copy.source) and copy.channel is None:
        return False
    for source in state.layouts(copy.source):
        for layout in BOTH:
            taken, put = _views(copy, source, layout)
            if taken.lies_as(put):
                whole, order = _tensor(copy.source, source, state)
                target = state.define_planes(copy.target, order, layout)
                state.places[target] = (whole, taken.start)
                return True
    return False


def _tensor(value: Value, layout: Layout, state: Lowering) -> tuple[Tensor, Order | None]:
    """Return a value in a layout; in planes as they lie."""
    if layout is Layout.PLANES:
        return state.planes(value)
    return state.get(value, layout), None


def copy_elements(name: str, found: Sequence[Copy], state: Lowering, joins: bool = False) -> None:
    """Make a value of all its copies, in the layout for which that costs least."""
    if len(found) == 1 and not joins and _is_part(found[0], state):
        return
    value, order = found[0].target, _kept_order(found, state)
    if order is not None:
        layout, target = Layout.PLANES, state.define_planes(value, order)
    else:
        layout = min(BOTH, key=lambda to: _cost(found, to, state, joins))
        target = state.define(value, layout)
    jobs: dict[Tensor, list[Piece]] = {}
    for copy in found:
        source = layout if order is not None else _nearest(copy, layout, state)
        taken, put = _views(copy, source, layout)
        read = state.get(copy.source, source) if order is None else state.planes(copy.source)[0]
        tensor = state.requantised(read, target)
        if joins and taken.lies_as(put):
            state.live_inside(tensor, target, put.start)
        else:
            jobs.setdefault(tensor, []).extend(taken.pieces(put))
    for tensor, some in jobs.items():
        state.copy(name, tensor, target, some)


def _kept_order(found: Sequence[Copy], state: Lowering) -> Order | None:
    """Return the channel in each plane of the result where operands keep the orders in which their
    channels lie; None where none does, or they would have to be sorted.
    """
    if not any(state.is_shuffled(copy.source) for copy in found):
        return None
    orders: dict[int, Order] = {}
    for copy in found:
        if copy.channel is None:
            return None
        mine = np.arange(copy.source.shape[-1])
        if state.is_shuffled(copy.source):
            mine = state.shuffled[copy.source][1]
        if not np.array_equal(orders.setdefault(copy.channel, mine), mine):
            return None
    return np.concatenate([orders[first] + first for first in sorted(orders)])


def _nearest(copy: Copy, layout: Layout, state: Lowering) -> Layout:
    """Return the layout of an operand from which copying costs least."""
    return min(BOTH, key=lambda source: _effort(copy, source, layout, state))


def _effort(
    copy: Copy, source: Layout, layout: Layout, state: Lowering, joins: bool = False
) -> float:
    """Return what copying costs, in copies of whole tensors."""
    taken, put = _views(copy, source, layout)
    change = 0 if source in state.layouts(copy.source) else _CHANGED
    if joins and taken.lies_as(put):
        return change
    # A job for every few bytes costs more than its bytes do.
    return change + 1 + len(taken.pieces(put)) / state.chip.tp_jobs / 4


def _cost(found: Sequence[Copy], layout: Layout, state: Lowering, joins: bool) -> float:
    total = sum(
        min(_effort(copy, source, layout, state, joins) for source in BOTH) for copy in found
    )
    return total + (0 if layout in _wanted(found[0].target, state) else _UNWANTED)


def _wanted(value: Value, state: Lowering) -> set[Layout]:
    """Return the layouts in which readers take a value; those that take either do not count."""
    found = {_reads(op) for op in state.graph.users(value)} - {None}
    if state.graph.is_output(value):
        found.add(Layout.ROWS)
    return {layout for layout in found if layout is not None} or set(BOTH)


def _reads(op: Op) -> Layout | None:
    return Layout.PLANES if isinstance(op, _IN_PLANES) else None
