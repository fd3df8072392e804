"""Means of windows: kernels of ones, whose sums the output's scale divides.

Where windows reach over the edge, only what is inside counts: the outside is filled with the zero
point, and each number of elements has a launch of its own, which divides by it. The TP cores put
the parts together.

Where a window is larger than the largest kernel, a mean of means of blocks is taken: it is rounded
twice.

Ref: docs/hardware/etnaviv.md sections 1.3 (largest kernel), 4.7 (scale), 8.2
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers.planes import cut, halved, same_for_all
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.windows.images import (
    Pair,
    Planes,
    launch,
    pasted,
    surrounded,
    thinned,
)
from teflon_etnaviv.exact.windows.largest import Windows
from teflon_etnaviv.rounding import cdiv

TWICE = 2
"""A mean of means is within a step while a step of the input is worth less than so many of the
output.
"""
_REGIONS_MAX = 9
"""Of parts with their own number of elements: with more, rows come first and columns then."""


_MOST_TAPS = 84
"""Of windows in which _AWAY moves nothing but halves: 128 * (_AWAY - 1), and as much as a factor
of 15 bits is wrong by, is less than one part of them.
"""
_AWAY = 1 + 2**-14
_CENTRE = 128  # the byte of the number 0 of int8


class Ties(enum.Enum):
    """Where means go that lie in the middle of two numbers."""

    EVEN = "to the even one"
    UP = "to the larger one"
    AWAY = "to the one further from 0, of int8"


@dataclass(frozen=True)
class Numbers:
    """What a mean becomes: steps of the input per step of the output, zero points of both, whether
    numbers below the output's are cut off.

    Ties are followed in windows of up to 84 elements that one launch sums.
    """

    ratio: float
    zeros: Pair
    relu: bool = False
    ties: Ties = Ties.EVEN

    def around_centre(self) -> Numbers:
        """Return the same for numbers that count from the byte 128."""
        return replace(self, zeros=(_CENTRE, _CENTRE))


@dataclass(frozen=True)
class Blocks:
    """A mean in two steps: of blocks, and of `rest` of them."""

    block: Pair
    rest: Windows

    @property
    def size(self) -> Pair:
        """Rows and columns that all blocks have together."""
        return self.rest.reach[0] * self.block[0], self.rest.reach[1] * self.block[1]


def blocks(windows: Windows, chip: Chip) -> Blocks | None:
    """Return the largest blocks that windows consist of; None where there are none.

    One window along an axis consists of blocks of any size, the last one filled up.
    """
    found = [
        _block(k, s, n == 1, chip.kernel_size_max)
        for k, s, n in zip(windows.kernel, windows.stride, windows.count, strict=True)
    ]
    high, wide = found
    if high is None or wide is None:
        return None
    rest = cdiv(windows.kernel[0], high), cdiv(windows.kernel[1], wide)
    stride = max(windows.stride[0] // high, 1), max(windows.stride[1] // wide, 1)
    return Blocks((high, wide), Windows(rest, stride, windows.count))


def _block(kernel: int, stride: int, single: bool, most: int) -> int | None:
    """Return the size of a block along an axis, of which at most `most` make a window."""
    if kernel <= most:
        return 1
    if single:
        block = cdiv(kernel, cdiv(kernel, most))
        return block if cdiv(kernel, block) <= most else None
    sizes = range(most, 1, -1)
    return next(
        (b for b in sizes if kernel % b == 0 and stride % b == 0 and kernel // b <= most), None
    )


def is_inside(windows: Windows, size: Pair) -> bool:
    """Whether no window reaches over the edge."""
    return windows.before == (0, 0) and all(
        reach <= n for reach, n in zip(windows.reach, size, strict=True)
    )


def mean(
    state: Lowering, name: str, source: Planes, windows: Windows, target: Planes, of: Numbers
) -> None:
    """Write the mean of what is inside in each window."""
    if of.ties is Ties.AWAY:
        of = replace(of, ties=Ties.EVEN) if of.relu else of.around_centre()
    if not is_inside(windows, source.size):
        _mean_inside(state, name, source, windows, target, of)
        return
    if max(windows.kernel) <= state.chip.kernel_size_max:
        _mean(state, name, source, windows, target, of, prod(windows.kernel))
        return
    found = blocks(windows, state.chip)
    assert found is not None, "a rule asks for it"
    (high, wide), rest = found.block, found.rest
    reach = windows.reach
    if any(
        size > n and full > n for size, n, full in zip(source.size, reach, found.size, strict=True)
    ):
        source = surrounded(state, name, source, (0, 0), reach)  # the last block holds no more
    whole = surrounded(state, name, source, (0, 0), found.size, of.zeros[0])
    middle = source.fresh("means", rest.reach)
    parts = Windows(found.block, found.block, rest.reach)
    zeros = (of.zeros[0], of.zeros[0])
    _mean(state, name, whole, parts, middle, Numbers(1, zeros), high * wide)
    ratio = of.ratio * high * wide * prod(rest.kernel) / prod(windows.kernel)
    _mean(
        state,
        name,
        middle,
        rest,
        target,
        replace(of, ratio=ratio, ties=Ties.EVEN),
        prod(rest.kernel),
    )


def _mean(
    state: Lowering,
    name: str,
    source: Planes,
    windows: Windows,
    target: Planes,
    of: Numbers,
    count: int,
) -> None:
    """Write the sum of each window, divided by `count`; no window reaches over the edge."""
    shape = cut(*source.size, source.channels, state.chip)
    assert shape is not None, "a rule asks for it"
    whole, halves = source.size, _halves(windows, source.size)
    if not halves:
        whole = source.height, (windows.count[1] - 1) * windows.stride[1] + 1
    weight, scale = _tied(of.ties, of.ratio / count, count)
    layer = same_for_all(
        shape, np.full(windows.kernel, weight, np.int64), scale, state.chip,
        zeros=of.zeros, columns=whole[1], bias=weight - 1, relu=of.relu, title=name,
    )  # fmt: skip
    step = windows.stride
    if halves:
        layer, whole, step = halved(layer, largest=False), (whole[0] // 2, whole[1] // 2), (1, 1)
    if whole == target.size:
        launch(state, name, (source.tensor,), target.tensor, layer)
        return
    all_ = replace(target.fresh("all", whole), height=whole[0], width=whole[1])
    launch(state, name, (source.tensor,), all_.tensor, layer)
    thinned(state, name, all_, target, step)


def _tied(ties: Ties, scale: float, count: int) -> tuple[int, float]:
    """Return weights and scale of a sum; with weights of 2 a bias of 1 is half of its smallest
    part.
    """
    if count % 2 or count > _MOST_TAPS or ties is Ties.EVEN:
        return 1, scale
    return (2, scale / 2) if ties is Ties.UP else (1, scale * _AWAY)


def _halves(windows: Windows, size: Pair) -> bool:
    """Whether the NN cores keep every second row and column only."""
    return windows.stride == (2, 2) and max(windows.count) > 1 and not any(n % 2 for n in size)


# Windows over the edge ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """Neighbouring windows along an axis that hold the same number of elements."""

    first: int
    end: int
    count: int


def spans(windows: Windows, size: Pair, axis: int) -> list[Span]:
    """Return the windows along an axis by the number of elements that are inside."""
    first = np.arange(windows.count[axis]) * windows.stride[axis] - windows.before[axis]
    inside = np.minimum(first + windows.kernel[axis], size[axis]) - np.maximum(first, 0)
    cuts = [0, *(np.flatnonzero(np.diff(inside)) + 1).tolist(), len(inside)]
    return [Span(a, b, int(inside[a])) for a, b in itertools.pairwise(cuts)]


def _mean_inside(
    state: Lowering, name: str, source: Planes, windows: Windows, target: Planes, of: Numbers
) -> None:
    """Write the mean of what is inside; in two steps where that needs fewer parts."""
    rows, columns = (spans(windows, source.size, axis) for axis in range(2))
    if len(rows) * len(columns) <= _REGIONS_MAX:
        _parts(state, name, source, windows, target, of)
        return
    zeros = (of.zeros[0], of.zeros[0])
    middle = source.fresh("rows", (windows.count[0], source.width))
    _parts(state, name, source, along(windows, source.size, 0), middle, Numbers(1, zeros))
    last = replace(of, ties=Ties.EVEN)
    _parts(state, name, middle, along(windows, middle.size, 1), target, last)


def along(windows: Windows, size: Pair, axis: int) -> Windows:
    """Return the windows along one axis; along the other one each element is a window."""

    def pair(mine: Pair, other: Pair) -> Pair:
        return (mine[0], other[1]) if axis == 0 else (other[0], mine[1])

    return Windows(
        pair(windows.kernel, (1, 1)), pair(windows.stride, (1, 1)), pair(windows.count, size),
        pair(windows.before, (0, 0)),
    )  # fmt: skip


def _parts(
    state: Lowering, name: str, source: Planes, windows: Windows, target: Planes, of: Numbers
) -> None:
    """Launch once for each number of elements, and put the parts together."""
    whole = surrounded(state, name, source, windows.before, windows.reach, of.zeros[0])
    inner = replace(windows, before=(0, 0))
    rows, columns = (spans(windows, source.size, axis) for axis in range(2))
    counts = sorted({a.count * b.count for a, b in itertools.product(rows, columns)})
    for count in counts:
        made = target if len(counts) == 1 else target.fresh(f"of {count}", target.size)
        _mean(state, name, whole, inner, made, of, count)
        for row, column in _regions(rows, columns, count) if made is not target else ():
            start = row.first, column.first
            size = row.end - row.first, column.end - column.first
            pasted(state, name, made, target, start, size, start)


def _regions(rows: list[Span], columns: list[Span], count: int) -> Iterator[tuple[Span, Span]]:
    return ((r, c) for r, c in itertools.product(rows, columns) if r.count * c.count == count)
