"""Resizing maps: copies of pixels, and depthwise convolutions where pixels are mixed."""

# Ref: docs/hardware/etnaviv_vendor.md (engines: resize nearest as a convolution and a TP job)
# Ref: docs/hardware/etnaviv.md sections 4 and 8.3

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from math import gcd, lcm

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import DepthwiseConv2D, MirrorPad, ResizeBilinear, ResizeNearestNeighbor
from teflon.ir.types import Array, DType, Padding, Quantization, TensorType
from teflon_common.phases import Phase, Resizing, bilinear, nearest, uncounted
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.copies import Copy, copies
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.moving import copy_elements, move_elements
from teflon_etnaviv.exact.rules.convolutions import convolution
from teflon_etnaviv.exact.rules.movement import JOBS_MAX, differs
from teflon_etnaviv.exact.rules.tensors import tensors, too_wide
from teflon_etnaviv.tensors import Layout
from teflon_etnaviv.tp.pieces import Axis, pieces

RULES = Rules[Chip, Lower]()

_LARGEST_WEIGHT = 255
_TOGETHER = 4
"""Kinds of shares along both axes up to which one convolution does both."""
_JOBS_AT_ONCE = 16
"""Copies of a map's pixels up to which rows and columns are resized at once."""


@RULES.requires
def quantized_alike(op: Resizing, chip: Chip) -> str | None:
    """A map that is resized must keep its quantisation."""
    return differs((op.input,), op.output)


@RULES.requires
def countable_rows(op: Resizing, chip: Chip) -> str | None:
    """Rows that change their layout must have at most {tp_image_max} bytes, maps that many rows."""
    return too_wide(tensors(op), chip)


@RULES.requires
def few_lines(op: ResizeNearestNeighbor, chip: Chip) -> str | None:
    """The sizes of a RESIZE_NEAREST_NEIGHBOR must have a ratio of small numbers: at most 64
    different distances between rows, and between columns, of input and output.
    """
    phases = max(map(len, nearest(op)))
    return None if _is_spread(op) or phases <= JOBS_MAX else f"{phases} distances"


@RULES.requires
def even_ratio(op: ResizeBilinear, chip: Chip) -> str | None:
    """The sizes of a RESIZE_BILINEAR must have a ratio of small numbers: shares of pixels in whole
    1/255, at most 64 phases.
    """
    if _is_spread(op):
        return None
    for phases in bilinear(op):
        parts = lcm(*(phase.share.denominator for phase in phases))
        if parts > _LARGEST_WEIGHT:
            return f"shares of 1/{parts}"
        if len(phases) > JOBS_MAX:
            return f"{len(phases)} phases"
    return None


@RULES.requires
def positions(op: ResizeBilinear, chip: Chip) -> str | None:
    """The ratio of sizes of a RESIZE_BILINEAR of int8 must be one that TFLite's kernel counts
    exactly, in 1/1024.
    """
    return None if _is_spread(op) else uncounted(op)


@RULES.requires
def map_size(op: ResizeBilinear, chip: Chip) -> str | None:
    """Maps of a RESIZE_BILINEAR must be less than {nn_image_max} high and wide."""
    most = max(*op.input.shape[1:3], *op.output.shape[1:3])
    return None if most < chip.nn_image_max else f"{most} rows or columns"


def _is_spread(op: Resizing) -> bool:
    """Whether all pixels of the result are the one that there is, in one image."""
    return op.input.shape[:3] == (1, 1, 1)


@RULES.lowers
def resize_nearest(op: ResizeNearestNeighbor, state: Lowering) -> None:
    """Copies of the input to every place of the blocks that its pixels become, rows first where
    there are many.
    """
    if _is_spread(op):
        _spread(op, state)
    elif len(list(copies(op))) <= _JOBS_AT_ONCE:
        move_elements(op, state)
    else:
        shape = (*op.output.shape[:2], *op.input.shape[2:])
        middle = _value(f"{op.output.name} (rows)", op.input, shape)
        move_elements(replace(op, output=middle), state)
        move_elements(replace(op, input=middle), state)


@RULES.lowers
def resize_bilinear(op: ResizeBilinear, state: Lowering) -> None:
    """A depthwise convolution for each pair of shares, of a map whose edges are doubled where
    positions lie outside; rows first, then columns, where there are many pairs.
    """
    if _is_spread(op):
        _spread(op, state)
        return
    rows, columns = bilinear(op)
    shares = [{phase.share for phase in phases} for phases in (rows, columns)]
    weights = [lcm(*(share.denominator for share in some)) for some in shares]
    few = max(map(len, shares)) <= _TOGETHER and weights[0] * weights[1] <= _LARGEST_WEIGHT
    if few:
        _mixed(op.where, op.input, op.output, rows, columns, state)
        return
    height, width = op.output.shape[1], op.input.shape[2]
    middle = _value(f"{op.output.name} (rows)", op.input, (1, height, width, op.input.shape[3]))
    _mixed(op.where, op.input, middle, rows, [Phase(0, 1, width, 0, 1)], state)
    _mixed(op.where, middle, op.output, [Phase(0, 1, height, 0, 1)], columns, state)


def _value(name: str, like: Value, shape: tuple[int, ...]) -> Value:
    return Value(name, replace(like.type, shape=shape))


def _spread(op: Resizing, state: Lowering) -> None:
    """Copy the pixel, then what is there behind it, until the map is full."""
    source, target = state.get(op.input, Layout.ROWS), state.define(op.output, Layout.ROWS)
    done, size = source.size_bytes, target.size_bytes
    state.copy(op.where, source, target, pieces([Axis(done, 1, 1)], 0, 0))
    while done < size:
        more = min(done, size - done)
        state.copy(op.where, target, target, pieces([Axis(more, 1, 1)], 0, done))
        done += more


def _mixed(
    name: str, source: Value, target: Value, rows: Sequence[Phase], columns: Sequence[Phase],
    state: Lowering,
) -> None:  # fmt: skip
    """Compute a map for each pair of shares, and copy its lines to their places."""
    source, before = _extended(source, (rows, columns), state)
    found: list[Copy] = []
    for share, other in _pairs(rows, columns):
        mixed = source
        if share or other:
            mixed = _weighted(name, source, share, other, state)
        found += [
            _placed(mixed, target, row, column, before)
            for row in rows
            for column in columns
            if (row.share, column.share) == (share, other)
        ]
    copy_elements(name, found, state)


def _pairs(rows: Sequence[Phase], columns: Sequence[Phase]) -> Iterator[tuple[Fraction, Fraction]]:
    shares = [sorted({phase.share for phase in phases}) for phases in (rows, columns)]
    yield from ((share, other) for share in shares[0] for other in shares[1])


def _extended(
    source: Value, phases: tuple[Sequence[Phase], Sequence[Phase]], state: Lowering
) -> tuple[Value, tuple[int, int]]:
    """Return a map with its edges doubled at the sides at which positions lie outside, and how many
    rows and columns come before it.
    """
    sizes = source.shape[1:3]
    before = [max(0, *(-phase.source for phase in some)) for some in phases]
    after = [
        max(0, *(phase.last - size + 1 for phase in some))
        for some, size in zip(phases, sizes, strict=True)
    ]
    if not any((*before, *after)):
        return source, (0, 0)
    shape = (1, *(sum(some) for some in zip(before, sizes, after, strict=True)), source.shape[3])
    larger = _value(f"{source.name} (with edges)", source, shape)
    sides = (0, *before, 0), (0, *after, 0)
    pad = MirrorPad(input=source, output=larger, before=sides[0], after=sides[1], reflect=False)
    move_elements(pad, state)
    return larger, (before[0], before[1])


def _weighted(name: str, source: Value, share: Fraction, other: Fraction, state: Lowering) -> Value:
    """Return what a depthwise convolution makes of up to four neighbours."""
    taps = np.outer(_weights(share), _weights(other))
    _, height, width, channels = source.shape
    shape = (1, height - taps.shape[0] + 1, width - taps.shape[1] + 1, channels)
    mixed = _value(f"{name} ({share}, {other})", source, shape)
    data = np.repeat(taps.astype(np.uint8)[None, :, :, None], channels, axis=3)
    kind = TensorType(DType.UINT8, data.shape, Quantization.per_tensor(1 / int(taps.sum()), 0))
    weights = Value(f"{name} (weights)", kind, data)
    op = DepthwiseConv2D(
        input=source, weights=weights, output=mixed, stride=(1, 1), padding=Padding(0, 0, 0, 0)
    )
    convolution(op, state)
    return mixed


def _weights(share: Fraction) -> Array:
    """Return the weights of neighbours along one axis in whole numbers."""
    if not share:
        return np.ones(1, np.int64)
    whole = share.denominator
    numbers = [int((1 - share) * whole), int(share * whole)]
    return np.array(numbers) // gcd(*numbers)


def _placed(
    mixed: Value, target: Value, row: Phase, column: Phase, before: tuple[int, int]
) -> Copy:
    """Return the copy of a phase's pixels from a mixed map to their places."""
    channels = mixed.shape[3]
    begin = (0, row.source + before[0], column.source + before[1], 0)
    size = (1, row.lines, column.lines, channels)
    return Copy(
        mixed, target,
        lambda view: view.cut(begin, size, (1, row.stride, column.stride, 1)),
        lambda view: view.cut((0, row.first, column.first, 0), size, (1, row.step, column.step, 1)),
        channel=0,
    )  # fmt: skip
