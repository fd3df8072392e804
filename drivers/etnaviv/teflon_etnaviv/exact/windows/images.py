"""Planes on the way from one operation to the next, and what the TP cores do to them.

Ref: docs/hardware/etnaviv.md sections 3.2 (field widths), 5.4
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.tensors import Tensor
from teflon_etnaviv.tp.moves import Move, Steps

_SHARED_FROM = 4096
"""Bytes from which on a move is worth more than one job."""
STRIDE_MAX, _WINDOW_MAX = 0xFFFF, 0x7FFF  # bytes from row to row, rows of a window

Pair = tuple[int, int]
"""Numbers along (height, width)."""


@dataclass(frozen=True)
class Planes:
    """A tensor's bytes as planes of so many rows and columns."""

    tensor: Tensor
    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, tensor: Tensor) -> Planes:
        return cls(tensor, *tensor.sizes)

    @property
    def size(self) -> Pair:
        return self.height, self.width

    def fresh(self, what: str, size: Pair) -> Planes:
        """Return new planes of this size, in the same quantisation."""
        shape = (1, *size, self.channels)
        return Planes(self.tensor.like(f"{self.tensor.name} ({what})", shape), *size, self.channels)


def launch(state: Lowering, name: str, inputs: tuple[Tensor, ...], out: Tensor, of: Layer) -> None:
    """Append a launch of the NN cores."""
    state.add(NN(name, inputs, (out,), of, CODING))


def surrounded(
    state: Lowering, name: str, source: Planes, start: Pair, size: Pair, fill: int | None = None
) -> Planes:
    """Return planes of a size that begin so far before the first element, or cut off; itself where
    nothing changes.

    fill: the byte outside of the source, by default its zero point.
    """
    if start == (0, 0) and size == source.size:
        return source
    made = source.fresh("padded", size)
    inside = [
        min(n, total - before) for n, total, before in zip(source.size, size, start, strict=True)
    ]
    after = [total - before - n for n, total, before in zip(inside, size, start, strict=True)]
    read = inside[1], inside[0], source.channels
    state.add(Move(
        name, (source.tensor,), (made.tensor,), read,
        Steps(0, 1, source.width, source.height * source.width),
        Steps(0, 1, size[1], size[0] * size[1]),
        (start[1], start[0]), (after[1], after[0]), fill, _jobs(state, read),
    ))  # fmt: skip
    return made


def thinned(state: Lowering, name: str, source: Planes, target: Planes, step: Pair) -> None:
    """Write every step-th row and column of planes, as many as the target has.

    So many rows as lie between two of them must have at most 65535 bytes.
    """
    height, width = target.size
    down, across = (s if n > 1 else 1 for s, n in zip(step, target.size, strict=True))
    plane, pitch = source.height * source.width, down * source.width
    uniform = plane == height * pitch or height == 1
    if width > 1 and across > 1 and not uniform:
        middle = source.fresh("rows", (height, source.width))
        thinned(state, name, source, middle, (down, 1))
        source, (down, plane, pitch) = middle, (1, height * source.width, source.width)
    if width == 1 or across == 1:
        size = (width, height, source.channels)
        read, write = Steps(0, 1, pitch, plane), Steps(0, 1, width, height * width)
    else:  # each element is a row of its own
        pitch = plane if height == 1 else pitch
        size = (1, width, source.channels * height)
        read, write = Steps(0, 1, across, pitch), Steps(0, 1, 1, width)
    if (
        size[:2] == (1, 1) and plane <= STRIDE_MAX and size[2] <= _WINDOW_MAX
    ):  # one element of each plane: a column of them
        size = (1, size[2], 1)
        read, write = Steps(0, 1, read.z, 0), Steps(0, 1, write.z, 0)
    jobs = _jobs(state, size)
    state.add(Move(name, (source.tensor,), (target.tensor,), size, read, write, jobs=jobs))


def pasted(
    state: Lowering, name: str, source: Planes, target: Planes, start: Pair, size: Pair, at: Pair
) -> None:
    """Copy a part of planes, from `start` on, into others, to `at`."""
    read = size[1], size[0], source.channels
    state.add(Move(
        name, (source.tensor,), (target.tensor,), read,
        Steps(start[0] * source.width + start[1], 1, source.width, source.height * source.width),
        Steps(at[0] * target.width + at[1], 1, target.width, target.height * target.width),
        jobs=_jobs(state, read),
    ))  # fmt: skip


def _jobs(state: Lowering, size: tuple[int, int, int]) -> int:
    """Return into how many jobs a move of (x, y, z) elements is split."""
    return 1 if prod(size) < _SHARED_FROM else min(state.chip.tp_jobs, size[2])
