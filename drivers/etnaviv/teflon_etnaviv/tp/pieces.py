"""Copies between boxes of tensors, whose axes have any steps and any order.

A job reads an image of up to three axes, the innermost one byte by byte, and writes each pixel
where nested counters say: what Mesa's transpositions do, with other numbers.

Ref: docs/hardware/etnaviv.md sections 3.2, 5.1, 5.2 and 8.3 (loops)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tp.operation import OTHERS_FOLLOW, TP

_WINDOW = 1 << 15  # x and y of a window's last pixel have 15 bits and a sign
_PLANES = (1 << 16) - 1
_PITCH = (1 << 16) - 1
_LOOPS = 7
_EVEN = 256
"""An axis that is too long is cut into equal parts of at least so many, if there are such."""


class Axis(NamedTuple):
    """One axis of what is copied: bytes from one element to the next on both sides."""

    size: int
    read: int
    written: int


class Piece(NamedTuple):
    """What one job copies: axes from the innermost on, and where it begins on both sides, bytes.

    The first `x` axes are the image's rows, `y` further ones its columns, the others its planes.
    """

    axes: tuple[Axis, ...]
    read: int
    written: int
    x: int = 0
    y: int = 0

    @property
    def size(self) -> int:
        """Bytes that it copies."""
        return _product(self.axes)


def _product(axes: Sequence[Axis]) -> int:
    size = 1
    for axis in axes:
        size *= axis.size
    return size


def pieces(axes: Sequence[Axis], read: int, written: int) -> list[Piece]:
    """Return the jobs that copy a box; axes in any order, with steps of any sign.

    read, written: bytes from the beginning of both tensors to the box's first element.
    """
    found = []
    for axis in axes:
        if axis.read < 0:  # from the other end
            read += (axis.size - 1) * axis.read
            written += (axis.size - 1) * axis.written
            axis = Axis(axis.size, -axis.read, -axis.written)
        if axis.size > 1:
            found.append(axis)
    merged = _merged(sorted(found, key=lambda axis: axis.read))
    return list(_pieces(merged, read, written))


def _merged(axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Return axes with those made one that follow each other on both sides."""
    found: list[Axis] = []
    for axis in axes:
        last = found[-1] if found else None
        if last and (last.size * last.read, last.size * last.written) == axis[1:]:
            found[-1] = last._replace(size=last.size * axis.size)
        else:
            found.append(axis)
    return tuple(found)


def _pieces(axes: tuple[Axis, ...], read: int, written: int) -> Iterator[Piece]:
    for number, (size, step, other) in enumerate(axes):
        if size > _WINDOW:
            part = _divisor(size)
            inner, rest = Axis(part, step, other), size % part
            outer = Axis(size // part, part * step, part * other)
            yield from _pieces((*axes[:number], inner, outer, *axes[number + 1 :]), read, written)
            if rest:
                some = (*axes[:number], Axis(rest, step, other), *axes[number + 1 :])
                done = size - rest
                yield from _pieces(some, read + done * step, written + done * other)
            return
    x = _run(axes, 1, 1, _WINDOW)
    y = _run(axes[x:], 0, _PITCH, _WINDOW)
    z = _run(axes[x + y :], 0, None, _PLANES)
    inside, outside = axes[: min(x + y + z, _LOOPS)], axes[min(x + y + z, _LOOPS) :]
    for place in itertools.product(*(range(axis.size) for axis in outside)):
        steps = list(zip(place, outside, strict=True))
        begin = read + sum(n * axis.read for n, axis in steps)
        end = written + sum(n * axis.written for n, axis in steps)
        rows = min(x, len(inside))
        yield Piece(inside, begin, end, rows, min(y, len(inside) - rows))


def _divisor(size: int) -> int:
    """Return into parts of how many an axis is cut that is too long."""
    even = (n for n in range(_WINDOW, _EVEN - 1, -1) if size % n == 0)
    return next(even, _WINDOW)


def _run(axes: Sequence[Axis], first: int, step_max: int | None, most: int) -> int:
    """Return how many axes, from the first one on, follow each other as one axis of an image.

    first: the step that it must have, 0 for any; step_max: its largest step; most: its largest
    size.
    """
    count, size = 0, 1
    for axis in axes:
        if count == 0:
            fits = axis.read <= (step_max or axis.read) and first in (0, axis.read)
        else:
            fits = axis.read == axes[0].read * size
        if not fits or size * axis.size > most:
            break
        size *= axis.size
        count += 1
    return count


def shared(found: Sequence[Piece], jobs: int) -> list[Piece]:
    """Return pieces for so many jobs: where there are fewer, the largest is cut along its outermost
    axis.
    """
    cut = list(found)
    while len(cut) < jobs:
        largest = max(cut, key=lambda piece: piece.size)
        if not largest.axes or largest.axes[-1].size < 2:
            break
        *inner, (size, read, written) = largest.axes
        half = size // 2
        at = cut.index(largest)
        cut[at : at + 1] = [
            largest._replace(axes=(*inner, Axis(half, read, written))),
            largest._replace(
                axes=(*inner, Axis(size - half, read, written)),
                read=largest.read + half * read, written=largest.written + half * written,
            ),
        ]  # fmt: skip
    return cut


@dataclass(frozen=True, eq=False)
class Pieces(TP):
    """Copies pieces of a tensor to their places in another one, a job for each."""

    detail: ClassVar[str] = "move"
    mark: ClassVar[int] = OTHERS_FOLLOW

    pieces: tuple[Piece, ...]

    def compile(self, chip: Chip) -> Compiled:
        last = len(self.pieces) - 1
        zero = self.inputs[0].zero_point
        return Compiled(
            tuple(
                Job(_instruction(piece, zero, n == last), piece.read, piece.written)
                for n, piece in enumerate(self.pieces)
            )
        )


def _instruction(piece: Piece, zero: int, is_last: bool) -> TPInstruction:
    rows = piece.axes[: piece.x]
    columns = piece.axes[piece.x : piece.x + piece.y]
    planes = piece.axes[piece.x + piece.y :]
    x, y = _product(rows), _product(columns)
    loops = dict(enumerate(piece.axes))
    counts = {f"out_loop_{n}_count": axis.size for n, axis in loops.items() if n < _LOOPS - 1}
    steps = {f"out_loop_{n}_inc": axis.written for n, axis in loops.items()}
    unused = {f"out_loop_{n}_count": 1 for n in range(len(loops), _LOOPS - 1)}
    return TPInstruction(
        in_image_x_size=x,
        in_image_y_size=y,
        in_image_z_size=_product(planes),
        in_image_stride=columns[0].read if columns else x,
        in_image_slice=planes[0].read if planes else x * y,
        in_window_x_end=x - 1,
        in_window_y_end=y - 1,
        in_tile_x_size=x,
        in_tile_y_size=y,
        in_tile_x_inc=x,
        in_tile_y_inc=y,
        no_flush=not is_last,
        in_zp=zero,
        out_zp=zero,
        **counts,
        **steps,
        **unused,
    )
