# Ref: docs/hardware/rocket.md §6
"""Split an operation into tasks that fit the convolution buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from teflon_rocket.chips import Chip
from teflon_rocket.coefs import KERNEL_GROUP
from teflon_rocket.operation import Operation

_MOST_ENTRIES = 0x3FFF  # CBUF_CON1.DATA_ENTRIES has 14 bits
_ENTRY = 128  # bytes: the unit in which the split counts; CBUF_CON1 counts halves of it


@dataclass(frozen=True)
class Tile:
    """The part of an operation that one task computes: rows and columns of input and output."""

    image: int = 0
    top: int = 0
    rows: int = 0
    pad_top: int = 0
    left: int = 0
    columns: int = 0
    pad_left: int = 0
    out_top: int = 0
    out_rows: int = 0
    out_left: int = 0
    out_columns: int = 0


@dataclass(frozen=True)
class Split:
    """All tiles of an operation, and how they share the convolution buffer.

    reuse: tasks behind the first find the weights in the buffer. together: one job for all.
    """

    tiles: tuple[Tile, ...]
    data_banks: int
    weight_banks: int
    reuse: bool
    together: bool


def row_entries(width: int, atoms: int) -> int:
    """Return 128-byte entries of one row, as Mesa counts them when it splits."""
    part = atoms % 8
    return atoms // 8 * width + (width if part == 3 else -(-part * width // 8))


# Mesa -----------------------------------------------------------------------------------------


def split_mesa(op: Operation, chip: Chip) -> Split:
    """Split as Mesa 26.2.6 does, its defects included; raises nothing.

    An operation for which Mesa would never come to an end yields no tiles.
    """
    entries = row_entries(op.width, op.atoms)
    per_bank = chip.cbuf_bank_bytes // _ENTRY
    input_banks = -(-entries * op.height // per_bank)
    weights = op.taps * op.channels * (1 if op.depthwise else op.out_channels)
    weight_banks = -(-weights // (_ENTRY * per_bank)) + 1
    available = (chip.cbuf_banks - weight_banks) & 0xFFFFFFFF
    reuse = weight_banks + 1 < chip.cbuf_banks
    if not reuse:
        available, weight_banks = 7, 5
    if input_banks <= available:
        tiles: tuple[Tile, ...] = (_whole(op),)
        return Split(tiles, input_banks, chip.cbuf_banks - input_banks, reuse, reuse)
    tiles = tuple(_mesa_tiles(op, per_bank * available // entries))
    return Split(tiles, available, weight_banks, reuse, reuse)


def _whole(op: Operation, image: int = 0) -> Tile:
    return Tile(
        image=image,
        rows=op.height,
        pad_top=op.pads[2],
        columns=op.width,
        pad_left=op.pads[0],
        out_rows=op.out_height,
        out_columns=op.out_width,
    )


def _mesa_bands(op: Operation, slices: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (top, bottom, padding above, padding below) as Mesa's loop makes them."""
    _, kernel = op.kernel
    _, _, above, below = op.pads
    bands = [(0, slices - 1, above, 0)]
    at = kernel - above - 1
    while at < op.height:
        bottom = bands[-1][1]
        while at <= bottom:
            at += op.stride[1]
        at -= op.stride[1]
        top = min(at, bottom) - (kernel - 1) + op.stride[1]
        bottom = top + slices - 1
        if bottom >= op.height - 1:
            bands.append((top, op.height - 1, 0, below))
            break
        if top <= bands[-1][0]:
            return  # no progress: Mesa loops for ever
        bands.append((top, bottom, 0, 0))
        at = bottom - slices + 1 + kernel - 1
    if bands[-1][0] >= op.height or bands[-1][1] >= op.height + below:
        bands.pop()
    yield from bands


def _mesa_tiles(op: Operation, slices: int) -> Iterator[Tile]:
    done = 0
    fetched = op.fetched_width(op.width)
    for top, bottom, above, below in _mesa_bands(op, slices):
        rows = min(bottom, op.height - 1) - top + 1
        reach = fetched + op.pads[0] + op.pads[1] - op.kernel[0]
        out_rows = ((rows + above + below - op.kernel[1]) & 0xFFFFFFFF) // op.stride[1] + 1
        yield Tile(
            top=top,
            rows=rows,
            pad_top=above,
            columns=op.width,
            pad_left=op.pads[0],
            out_top=done,
            out_rows=out_rows,
            out_columns=reach // op.stride[0] + 1,
        )
        done += out_rows


# Exact ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """Banks for features and for weights."""

    data: int
    weights: int
    reuse: bool


def split_exact(op: Operation, chip: Chip) -> Split | None:
    """Split so that every task fits and every output is computed once; None where none does.

    As Mesa does wherever that fits. Otherwise more banks go to the features, then tasks become one
    output row high and as wide as fits (the DPU writes gapless rows, so a narrower task may have
    only one).
    """
    for budget in _budgets(op, chip):
        tiles = _fit(op, chip, budget.data)
        if tiles is None:
            continue
        single = len(tiles) == 1 and tiles[0].rows == op.height and tiles[0].columns == op.width
        data = _banks(op, tiles[0], chip) if single else budget.data
        weights = chip.cbuf_banks - data if single else budget.weights
        images = op.input.shape[0]
        every = tuple(_at_image(t, n) for n in range(images) for t in tiles)
        return Split(every, data, weights, budget.reuse, True)
    return None


def _budgets(op: Operation, chip: Chip) -> Iterator[Budget]:
    """Yield splits of the buffer in order of preference: Mesa's first."""
    bank, banks = chip.cbuf_bank_bytes, chip.cbuf_banks
    needed = -(-op.weight_bytes // bank)
    nominal = op.taps * op.channels * (1 if op.depthwise else op.out_channels)
    weights = max(-(-nominal // bank) + 1, needed)
    group = -(-op.weight_bytes // max(op.kernels, 1) * min(op.kernels, KERNEL_GROUP) // bank)
    if weights + 1 < banks:
        yield Budget(banks - weights, weights, True)
    elif group <= 5:
        yield Budget(7, 5, False)
    if needed < min(weights, banks):
        yield Budget(banks - needed, needed, True)
    if group < banks:
        yield Budget(banks - group, group, needed <= group)


def _demands(op: Operation, columns: int, chip: Chip) -> list[tuple[int, int]]:
    """Return (64-byte entries of a row, entries that stay free), as Mesa counts and by the rule.

    Ref: docs/hardware/rocket.md §6.1, §6.3, §8.9 (width 1 and the last bank 97 % full)
    """
    demands = [(2 * row_entries(columns, op.atoms), 0)]
    if not op.one_channel:
        narrow = op.fetched_width(columns) == 1
        free = chip.bank_entries * 3 // 100 + 1 if narrow else 0
        demands.append((op.entries(columns), free))
    return demands


def _banks(op: Operation, tile: Tile, chip: Chip) -> int:
    """Banks that a tile's rows take."""
    demands = _demands(op, tile.columns, chip)
    return max(-(-(entries * tile.rows + free) // chip.bank_entries) for entries, free in demands)


def _rows(op: Operation, columns: int, chip: Chip, banks: int) -> int:
    """Rows of so many columns that fit."""
    room = chip.bank_entries * banks
    fitting = [(room - free) // entries for entries, free in _demands(op, columns, chip)]
    return min(*fitting, chip.max_height)


def _fit(op: Operation, chip: Chip, banks: int) -> list[Tile] | None:
    """Return the tiles of one image for so many banks of features; None where a kernel's rows do
    not fit even one output pixel wide.
    """
    if op.row_input and op.entries(op.width) > _MOST_ENTRIES:
        return None
    if op.width <= chip.max_width and op.out_width <= chip.max_width:
        slices = _rows(op, op.width, chip, banks)
        if slices >= op.height:
            return [_whole(op)]
        if slices >= op.kernel[1] and _padding_is_partial(op):
            return list(_bands(op, slices))
    if op.row_input or not _padding_is_partial(op):
        return None
    return _pieces(op, chip, banks)


def _padding_is_partial(op: Operation) -> bool:
    """Whether every window holds a part of the map: a task begins with a row and a column of it."""
    return op.pads[1] < op.kernel[0] and op.pads[3] < op.kernel[1]


def _bands(op: Operation, slices: int) -> Iterator[Tile]:
    """Yield tiles of the full width and at most `slices` input rows."""
    done = 0
    while done < op.out_height:
        first = done * op.stride[1] - op.pads[2]
        top, above = max(first, 0), max(-first, 0)
        rows = min(slices, op.height - top)
        last = top + rows >= op.height
        out_rows = (rows + above - op.kernel[1]) // op.stride[1] + 1
        if last:
            out_rows = op.out_height - done
        yield Tile(
            top=top,
            rows=rows,
            pad_top=above,
            columns=op.width,
            pad_left=op.pads[0],
            out_top=done,
            out_rows=min(out_rows, op.out_height - done),
            out_columns=op.out_width,
        )
        done += out_rows


def _pieces(op: Operation, chip: Chip, banks: int) -> list[Tile] | None:
    """Return tiles of one output row each, as wide as fits."""
    rows = min(op.kernel[1], op.height)
    columns = min(op.width, chip.max_width)
    while columns and _rows(op, columns, chip, banks) < rows:
        columns -= 1
    if columns < min(op.kernel[0], op.width):
        return None
    spans = list(_spans(op.width, op.out_width, op.kernel[0], op.stride[0], op.pads[0], columns))
    lines = list(
        _spans(op.height, op.out_height, op.kernel[1], op.stride[1], op.pads[2], op.kernel[1], 1)
    )
    return [
        Tile(
            top=y[0],
            rows=y[1],
            pad_top=y[2],
            left=x[0],
            columns=x[1],
            pad_left=x[2],
            out_top=y[3],
            out_rows=y[4],
            out_left=x[3],
            out_columns=x[4],
        )
        for y in lines
        for x in spans
    ]


def _spans(
    size: int, out: int, kernel: int, stride: int, before: int, room: int, most: int = 1 << 30
) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (first, count, padding before, first output, outputs) along one axis: at most `room`
    inputs and `most` outputs each.
    """
    done = 0
    while done < out:
        start = done * stride - before
        first, pad = max(start, 0), max(-start, 0)
        fitting = (room + pad - kernel) // stride + 1 if size - first > room else out
        count = min(fitting, most, out - done)
        end = max(min(start + (count - 1) * stride + kernel, size), first + 1)
        yield first, end - first, pad, done, count
        done += count


def _at_image(tile: Tile, image: int) -> Tile:
    if image == 0:
        return tile
    return Tile(**{**vars(tile), "image": image})
