# Ref: docs/hardware/rocket.md §6.1, §6.2
"""Cut convolutions into tasks as Mesa 26.2.6 does, its defects included."""

from __future__ import annotations

from collections.abc import Iterator

from teflon_rocket.chips import Chip
from teflon_rocket.operations.convolution import Geometry, Split, Tile

_ENTRY = 128  # bytes: the unit in which Mesa counts
_LOADED_AGAIN = 7, 5  # banks of features and of weights where the weights do not stay


def split(g: Geometry, chip: Chip) -> Split:
    """Return Mesa's tasks; none where Mesa would split for ever."""
    entries = g.split_entries(g.width)
    per_bank = chip.cbuf_bank_bytes // _ENTRY
    input_banks = -(-entries * g.height // per_bank)
    weights = g.taps * g.channels * (1 if g.depthwise else g.out_channels)
    weight_banks = -(-weights // (_ENTRY * per_bank)) + 1
    available = (chip.cbuf_banks - weight_banks) & 0xFFFFFFFF
    reuse = weight_banks + 1 < chip.cbuf_banks
    if not reuse:
        available, weight_banks = _LOADED_AGAIN
    if input_banks <= available:
        tiles: tuple[Tile, ...] = (g.whole(),)
        return Split(tiles, input_banks, chip.cbuf_banks - input_banks, reuse)
    tiles = tuple(_tiles(g, per_bank * available // entries))
    return Split(tiles, available, weight_banks, reuse)


def _bands(g: Geometry, slices: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (top, bottom, padding above, padding below) as Mesa's loop makes them."""
    _, kernel = g.kernel
    _, _, above, below = g.pads
    bands = [(0, slices - 1, above, 0)]
    at = kernel - above - 1
    while at < g.height:
        bottom = bands[-1][1]
        while at <= bottom:
            at += g.stride[1]
        at -= g.stride[1]
        top = min(at, bottom) - (kernel - 1) + g.stride[1]
        bottom = top + slices - 1
        if bottom >= g.height - 1:
            bands.append((top, g.height - 1, 0, below))
            break
        if top <= bands[-1][0]:
            return  # no progress: Mesa loops for ever
        bands.append((top, bottom, 0, 0))
        at = bottom - slices + 1 + kernel - 1
    if bands[-1][0] >= g.height or bands[-1][1] >= g.height + below:
        bands.pop()
    yield from bands


def _tiles(g: Geometry, slices: int) -> Iterator[Tile]:
    done = 0
    fetched = g.fetched_width(g.width)
    for top, bottom, above, below in _bands(g, slices):
        rows = min(bottom, g.height - 1) - top + 1
        reach = fetched + g.pads[0] + g.pads[1] - g.kernel[0]
        out_rows = ((rows + above + below - g.kernel[1]) & 0xFFFFFFFF) // g.stride[1] + 1
        yield Tile(
            top=top,
            rows=rows,
            pad_top=above,
            columns=g.width,
            pad_left=g.pads[0],
            out_top=done,
            out_rows=out_rows,
            out_columns=reach // g.stride[0] + 1,
        )
        done += out_rows
