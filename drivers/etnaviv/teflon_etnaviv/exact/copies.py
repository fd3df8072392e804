"""What operations that only move elements copy: boxes of operands to boxes of results."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import singledispatch
from typing import NamedTuple

from teflon.ir.graph import Op, Value
from teflon.ir.ops import (
    Concatenation,
    DepthToSpace,
    MirrorPad,
    Pack,
    ResizeNearestNeighbor,
    Slice,
    SpaceToDepth,
    Split,
    SplitV,
    StridedSlice,
    Tile,
    Transpose,
    Unpack,
)
from teflon_common.boxes import Cutting, parts
from teflon_common.phases import Phase, nearest
from teflon_etnaviv.exact.views import Sizes, View

Look = Callable[[View], View]

Copying = (
    Concatenation | Pack | Split | SplitV | Unpack | Slice | StridedSlice | Transpose | SpaceToDepth
    | DepthToSpace | MirrorPad | Tile | ResizeNearestNeighbor
)  # fmt: skip
"""Operations that `copies` knows."""


def whole(view: View) -> View:
    """Return a view as it is."""
    return view


class Copy(NamedTuple):
    """Elements of an operand that become elements of a result, one after the other.

    channel: the channel of the result that the operand's first one becomes, where all of them are
    copied in order; None where they are not.
    """

    source: Value
    target: Value
    taken: Look = whole
    put: Look = whole
    channel: int | None = None


@singledispatch
def copies(op: Op) -> Iterator[Copy]:
    """Yield all copies of an operation."""
    raise TypeError(f"{op.title}: must be an operation that only moves elements")


@copies.register
def _(op: Slice | StridedSlice | Split | SplitV | Unpack) -> Iterator[Copy]:
    return _taken(op)


def _taken(op: Cutting) -> Iterator[Copy]:
    for part in parts(op):
        last = part.begin[-1:], part.size[-1:], part.steps[-1:], part.value.shape[-1:]
        kept = last == ((0,), op.input.shape[-1:], (1,), op.input.shape[-1:])
        look = _cut(part.begin, part.size, part.steps)
        yield Copy(op.input, part.value, look, channel=0 if kept else None)


def _cut(begin: Sizes, size: Sizes, steps: Sizes | None = None) -> Look:
    return lambda view: view.cut(begin, size, steps)


@copies.register
def _(op: Concatenation | Pack) -> Iterator[Copy]:
    first, zeros = 0, (0,) * op.output.type.rank
    for value in op.inputs:
        packed = isinstance(op, Pack)
        count = 1 if packed else value.shape[op.axis]
        begin = (*zeros[: op.axis], first, *zeros[op.axis + 1 :])
        size = (*op.output.shape[: op.axis], count, *op.output.shape[op.axis + 1 :])
        channel = begin[-1] if value.shape[-1:] == size[-1:] else None
        yield Copy(value, op.output, put=_cut(begin, size), channel=channel)
        first += count


@copies.register
def _(op: Transpose) -> Iterator[Copy]:
    kept = op.perm[-1:] == (op.input.type.rank - 1,)
    channel = 0 if kept else None
    yield Copy(op.input, op.output, lambda view: view.permuted(op.perm), channel=channel)


@copies.register
def _(op: SpaceToDepth) -> Iterator[Copy]:
    yield Copy(op.input, op.output, _blocks(op.block), _places(op.block))


@copies.register
def _(op: DepthToSpace) -> Iterator[Copy]:
    yield Copy(op.input, op.output, _places(op.block), _blocks(op.block))


def _blocks(block: int) -> Look:
    """Return what sees a map as images, rows and columns of blocks, rows and columns in them,
    channels.
    """
    return lambda view: view.unfolded(1, block).unfolded(3, block).permuted((0, 1, 3, 2, 4, 5))


def _places(block: int) -> Look:
    """Return what sees the channels as rows and columns of blocks, and channels."""

    def look(view: View) -> View:
        channels = view.sizes[3] // block // block
        return view.unfolded(3, channels).unfolded(3, block)

    return look


@copies.register
def _(op: MirrorPad) -> Iterator[Copy]:
    sides = zip(op.before, op.input.shape, op.after, strict=True)
    runs = [list(_mirrored(*side, skipped=int(op.reflect))) for side in sides]
    yield from _boxes(op.input, op.output, runs)


class _Run(NamedTuple):
    """Along one axis: the first element, the step to the next one on both sides, and how many."""

    source: int
    target: int
    size: int
    stride: int = 1
    step: int = 1


def _mirrored(before: int, size: int, after: int, skipped: int) -> Iterator[_Run]:
    yield _Run(0, before, size)
    if before:
        yield _Run(before - 1 + skipped, 0, before, stride=-1)
    if after:
        yield _Run(size - 1 - skipped, before + size, after, stride=-1)


def _boxes(source: Value, target: Value, runs: list[list[_Run]]) -> Iterator[Copy]:
    """Yield a copy for each combination of runs along the axes."""
    for some in itertools.product(*runs):
        begins, ends, sizes, strides, steps = zip(*some, strict=True)
        looks = _cut(begins, sizes, strides), _cut(ends, sizes, steps)
        yield Copy(source, target, *looks, channel=0 if len(runs[-1]) == 1 else None)


@copies.register
def _(op: Tile) -> Iterator[Copy]:
    sizes = zip(op.input.shape, op.multiples, strict=True)
    runs = [[_Run(0, n * size, size) for n in range(times)] for size, times in sizes]
    yield from _boxes(op.input, op.output, runs)


@copies.register
def _(op: ResizeNearestNeighbor) -> Iterator[Copy]:
    rows, columns = (list(map(_phase, some)) for some in nearest(op))
    images, _, _, channels = op.input.shape
    yield from _boxes(
        op.input, op.output, [[_Run(0, 0, images)], rows, columns, [_Run(0, 0, channels)]]
    )


def _phase(phase: Phase) -> _Run:
    return _Run(phase.source, phase.first, phase.lines, phase.stride, phase.step)
