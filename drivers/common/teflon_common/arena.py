"""Placing buffers in one piece of memory, where buffers of different times share addresses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teflon_common.program import Buffer

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A buffer of `size` bytes that is used from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both buffers are in use at the same step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """The offset of each buffer, in the given order, and the bytes that all of them take."""

    offsets: tuple[int, ...]
    peak: int


def place(buffers: Sequence[Lifetime], alignment: int = ALIGNMENT) -> Arena:
    """Return offsets, multiples of `alignment`, at which buffers of the same step do not overlap.

    Greedy: each buffer goes to the lowest free place. Three orders of the buffers are tried, and
    the smallest result is taken: by size, by size times lifetime, by first step. The time is
    quadratic in the number of buffers.
    """
    sizes = [-(-b.size // alignment) * alignment for b in buffers]
    orders: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda n: (-sizes[n], buffers[n].first, n),
        lambda n: (-sizes[n] * (buffers[n].last - buffers[n].first + 1), n),
        lambda n: (buffers[n].first, -sizes[n], n),
    )
    arenas = (_place_greedily(buffers, sizes, sorted(range(len(buffers)), key=k)) for k in orders)
    return min(arenas, key=lambda arena: arena.peak)


def _place_greedily(
    buffers: Sequence[Lifetime], sizes: Sequence[int], order: Sequence[int]
) -> Arena:
    offsets = [0] * len(buffers)
    done: list[int] = []
    for number in order:
        taken = sorted(
            (offsets[n], offsets[n] + sizes[n]) for n in done if buffers[n].meets(buffers[number])
        )
        start = 0
        for begin, end in taken:
            if start + sizes[number] <= begin:
                break
            start = max(start, end)
        offsets[number] = start
        done.append(number)
    ends = (offset + size for offset, size in zip(offsets, sizes, strict=True))
    return Arena(tuple(offsets), max(ends, default=0))


def lower_bound(buffers: Sequence[Lifetime], alignment: int = ALIGNMENT) -> int:
    """Return the bytes in use at the step that needs most: no arena can be smaller."""
    steps = {b.first for b in buffers}
    rounded = [(-(-b.size // alignment) * alignment, b) for b in buffers]
    return max((sum(s for s, b in rounded if b.first <= t <= b.last) for t in steps), default=0)


def row(sizes: Sequence[int], alignment: int = ALIGNMENT) -> Arena:
    """Return the offsets of things that lie one after the other, without sharing addresses."""
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-size // alignment) * alignment
    return Arena(tuple(offsets), end)


class Pool:
    """A buffer for constants, which lie one after the other."""

    def __init__(self, role: str, alignment: int = ALIGNMENT) -> None:
        self.role = role
        self.offsets: list[int] = []
        self._alignment = alignment
        self._known: dict[int, int] = {}
        self._data = bytearray()
        self._mapped = 0

    def add(self, data: bytes, room: int = 0, once: bool = True) -> int:
        """Add `data`, aligned, and return its offset.

        The buffer gets at least `room` bytes from that offset on. With `once`, equal data is stored
        once.
        """
        key = hash(data) if once else 0
        offset = self._known.get(key) if once else None
        if offset is None or not self._data.startswith(data, offset):
            offset = self._known[key] = len(self._data)
            self._data += data
            self._data += bytes(-len(data) % self._alignment)
        self.offsets.append(offset)
        self._mapped = max(self._mapped, offset + room)
        return offset

    @property
    def buffer(self) -> Buffer:
        """Return the buffer. Nothing can be added after that."""
        size = max(self._mapped, len(self._data))
        return Buffer(self.role, size, memoryview(self._data).toreadonly(), self.role)
