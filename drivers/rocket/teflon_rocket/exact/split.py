# Ref: docs/hardware/rocket.md §6
"""Cut convolutions into tasks that fit the convolution buffer."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from teflon_rocket.chips import Chip
from teflon_rocket.operations.convolution import Geometry, Split, Tile

_MOST_ENTRIES = 0x7FFF  # CBUF_CON1.DATA_ENTRIES has 15 bits
_MANY = 1 << 30


class Budget(NamedTuple):
    """Banks for features and for weights."""

    data: int
    weights: int
    reuse: bool


_KEPT = 1024  # splits that are remembered: an operation is checked first, then compiled

_LOADED_AGAIN = Budget(7, 5, False)
"""What Mesa takes where the weights do not fit beside a few rows."""


@functools.lru_cache(_KEPT)
def split(g: Geometry, chip: Chip) -> Split | None:
    """Return tasks that fit and compute every output once; None where there are none.

    They are Mesa's wherever those fit. Otherwise more banks go to the features. Where that is not
    enough, tasks become one output row high and as wide as fits: the DPU writes rows without gaps,
    so a task that is narrower than the map may have only one.
    """
    for budget in _budgets(g, chip):
        tiles = _fit(g, chip, budget.data)
        if tiles is None:
            continue
        single = len(tiles) == 1 and tiles[0].rows == g.height and tiles[0].columns == g.width
        data = _banks(g, tiles[0], chip) if single else budget.data
        weights = chip.cbuf_banks - data if single else budget.weights
        every = tuple(_at_image(t, n) for n in range(g.images) for t in tiles)
        return Split(every, data, weights, budget.reuse)
    return None


def _budgets(g: Geometry, chip: Chip) -> Iterator[Budget]:
    """Yield splits of the buffer in order of preference: Mesa's first."""
    bank, banks = chip.cbuf_bank_bytes, chip.cbuf_banks
    needed = -(-g.weight_bytes // bank)
    nominal = g.taps * g.channels * (1 if g.depthwise else g.out_channels)
    weights = max(-(-nominal // bank) + 1, needed)
    group = -(-g.weight_bytes // max(g.kernels, 1) * min(g.kernels, chip.kernel_group) // bank)
    if weights + 1 < banks:
        yield Budget(banks - weights, weights, True)
    elif group <= _LOADED_AGAIN.weights:
        yield _LOADED_AGAIN
    if needed < min(weights, banks):
        yield Budget(banks - needed, needed, True)
    if group < banks:
        yield Budget(banks - group, group, needed <= group)


def _demands(g: Geometry, columns: int, chip: Chip) -> list[tuple[int, int]]:
    """Return (64-byte entries of a row, entries that stay free), as Mesa counts and by the rule.

    Ref: docs/hardware/rocket.md §6.1, §6.3, §8.9 (width 1 and the last bank 97 % full)
    """
    demands = [(2 * g.split_entries(columns), 0)]
    if not g.converts:
        narrow = g.fetched_width(columns) == 1
        free = chip.bank_entries * 3 // 100 + 1 if narrow else 0
        demands.append((g.entries(columns), free))
    return demands


def _banks(g: Geometry, tile: Tile, chip: Chip) -> int:
    """Banks that a tile's rows take."""
    demands = _demands(g, tile.columns, chip)
    return max(-(-(entries * tile.rows + free) // chip.bank_entries) for entries, free in demands)


def _rows(g: Geometry, columns: int, chip: Chip, banks: int) -> int:
    """Rows of so many columns that fit."""
    room = chip.bank_entries * banks
    fitting = [(room - free) // entries for entries, free in _demands(g, columns, chip)]
    return min(*fitting, chip.max_height)


def _fit(g: Geometry, chip: Chip, banks: int) -> list[Tile] | None:
    """Return the tiles of one image for so many banks of features; None where a kernel's rows do
    not fit even one output pixel wide.
    """
    if g.rows and g.entries(g.width) > _MOST_ENTRIES:
        return None
    across, down = (
        step > chip.max_stride and out > 1
        for step, out in zip(g.stride, (g.out_width, g.out_height), strict=True)
    )
    if across or down:  # tasks of one output along such an axis need no stride
        partial = _padding_is_partial(g) and not g.rows
        return _pieces(g, chip, banks, 1 if across else _MANY) if partial else None
    if g.width <= chip.max_width and g.out_width <= chip.max_width:
        slices = _rows(g, g.width, chip, banks)
        if slices >= g.height and g.out_height <= chip.max_height:
            return [g.whole()]
        if slices >= _axes(g)[1].least and _padding_is_partial(g):
            return list(_deconvolved(g, slices) if g.deconvolution else _bands(g, slices))
    if g.rows or not _padding_is_partial(g):
        return None
    return _pieces(g, chip, banks)


def _padding_is_partial(g: Geometry) -> bool:
    """Whether every window holds a part of the map: a task begins with a row and a column of it."""
    return g.pads[1] < g.reach[0] and g.pads[3] < g.reach[1]


def _bands(g: Geometry, slices: int) -> Iterator[Tile]:
    """Yield tiles of the full width and at most `slices` input rows."""
    done = 0
    while done < g.out_height:
        first = done * g.stride[1] - g.pads[2]
        top, above = max(first, 0), max(-first, 0)
        rows = min(slices, g.height - top)
        last = top + rows >= g.height
        out_rows = (rows + above - g.reach[1]) // g.stride[1] + 1
        if last:
            out_rows = g.out_height - done
        yield Tile(
            top=top,
            rows=rows,
            pad_top=above,
            columns=g.width,
            pad_left=g.pads[0],
            out_top=done,
            out_rows=min(out_rows, g.out_height - done),
            out_columns=g.out_width,
        )
        done += out_rows


def _deconvolved(g: Geometry, slices: int) -> Iterator[Tile]:
    """Yield tiles of the full width of a deconvolution."""
    for y in _spans(_axes(g)[1], slices):
        yield g.whole()._replace(
            top=y.first, rows=y.inputs, pad_top=y.pad, out_top=y.done, out_rows=y.results
        )


def _pieces(g: Geometry, chip: Chip, banks: int, most: int = _MANY) -> list[Tile] | None:
    """Return tiles of one output row and at most so many outputs each, as wide as fits."""
    across, down = _axes(g)
    columns = min(g.width, chip.max_width)
    while columns and _rows(g, columns, chip, banks) < min(down.least, g.height):
        columns -= 1
    if columns < min(across.least, g.width):
        return None
    most = min(most, chip.max_width) if g.deconvolution else most
    spans, lines = list(_spans(across, columns, most)), list(_spans(down, down.least, 1))
    return [
        Tile(
            top=y.first,
            rows=y.inputs,
            pad_top=y.pad,
            left=x.first,
            columns=x.inputs,
            pad_left=x.pad,
            out_top=y.done,
            out_rows=y.results,
            out_left=x.done,
            out_columns=x.results,
        )
        for y in lines
        for x in spans
    ]


class _Axis(NamedTuple):
    """One axis of a convolution: inputs, outputs, first to last tap, stride, distance that a
    deconvolution puts between inputs, padding before them.
    """

    size: int
    out: int
    reach: int
    stride: int
    spread: int
    before: int

    @property
    def least(self) -> int:
        """The most inputs that one output needs."""
        return -(-self.reach // self.spread)


class _Span(NamedTuple):
    """A part of an axis: the first input, how many, padding before them, the first output, how
    many.
    """

    first: int
    inputs: int
    pad: int
    done: int
    results: int


def _axes(g: Geometry) -> tuple[_Axis, _Axis]:
    """Return both axes, x and y."""
    x = _Axis(g.width, g.out_width, g.reach[0], g.stride[0], g.spread[0], g.pads[0])
    y = _Axis(g.height, g.out_height, g.reach[1], g.stride[1], g.spread[1], g.pads[2])
    return x, y


def _spans(axis: _Axis, room: int, most: int = _MANY) -> Iterator[_Span]:
    """Yield the parts of an axis that have at most `room` inputs and `most` outputs each."""
    done, spread = 0, axis.spread
    while done < axis.out:
        start = done * axis.stride - axis.before  # in inputs as they lie once they are spread
        first = max(-(-start // spread), 0)
        fitting = axis.out
        if axis.size - first > room:
            fitting = ((first + room) * spread - axis.reach - start) // axis.stride + 1
        results = min(fitting, most, axis.out - done)
        end = (start + (results - 1) * axis.stride + axis.reach - 1) // spread + 1
        end = max(min(end, axis.size), first + 1)
        yield _Span(first, end - first, first * spread - start, done, results)
        done += results


def _at_image(tile: Tile, image: int) -> Tile:
    return tile._replace(image=image) if image else tile
