# Ref: docs/hardware/rocket_vendor.md §4 (why not on the PPU), §0.10 (largest of two maps)
"""The largest of each window, by depthwise convolutions that shift a map.

Each step moves a map by a tap of the window, strided and padded by the lowest number, and the DPU
takes the larger of the result and a second map. Rows and columns are done one after the other.
Nothing is rounded: the numbers are exact.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from typing import NamedTuple

from teflon_rocket.chips import Chip

_TASK_BYTES = 64 * 1024
"""What starting a task costs, in bytes that could move in the same time."""


class Join(enum.Enum):
    """The second map of a step: none, the one that is shifted itself, the step before."""

    NONE = "alone"
    SELF = "with what it shifts"
    BEFORE = "with the step before"


class Step(NamedTuple):
    """One step along one axis: of each window of `kernel` elements, element `tap` stays."""

    kernel: int
    tap: int
    stride: int
    before: int
    """Padding in front."""
    size: int
    out: int
    join: Join
    back: int = 1
    """What it shifts: 1: the result of the step before, 2: of the one before that, and so on."""

    @property
    def after(self) -> int:
        """Padding behind: as much as the output needs."""
        return max((self.out - 1) * self.stride + self.kernel - self.size - self.before, 0)


class Axis(NamedTuple):
    """Windows along one axis: `kernel` elements, `stride` apart, `before` elements of padding."""

    size: int
    out: int
    kernel: int
    stride: int
    before: int


def steps(axis: Axis, chip: Chip, other: int) -> list[Step] | None:
    """Return the cheapest steps along one axis; None where there are none.

    other: bytes of all elements beside one along this axis.
    """
    ways = [way for way in (_tap_by_tap(axis, chip), _doubling(axis, chip)) if way is not None]
    return min(ways, key=lambda way: cost(way, other), default=None)


def cost(way: list[Step], other: int) -> int:
    """Return what steps cost, in bytes."""
    moved = (s.size + s.out * (2 if s.join is not Join.NONE else 1) for s in way)
    return sum(moved) * other + len(way) * _TASK_BYTES


def _tap_by_tap(axis: Axis, chip: Chip) -> list[Step] | None:
    """Return a step for each tap: each shifts the whole input to its place."""
    size, out, kernel, stride, before = axis
    if kernel > chip.max_kernel or stride > chip.max_stride or before > chip.max_pad:
        return None
    plain = stride == 1 and out == size
    taps = [tap for tap in range(kernel) if not plain or tap != before]
    found = []
    for number, tap in enumerate(taps):
        join = Join.BEFORE if number else Join.SELF if plain else Join.NONE
        found.append(Step(kernel, tap, stride, before, size, out, join, back=number + 1))
    return found


def _doubling(axis: Axis, chip: Chip) -> list[Step] | None:
    """Return steps that make windows around each element twice as wide, then leave out elements.

    A window may grow by one more than it already reaches to that side: so what padding hides of
    the shifted map is in the other one.
    """
    size, out, kernel, stride, before = axis
    if (out - 1) * stride >= size:
        return None  # the last window would lie around an element of the padding
    found = []
    for wanted, sign in ((before, -1), (kernel - 1 - before, 1)):
        most = min(chip.max_pad, chip.max_kernel - 1)
        for by in _growth(min(wanted, size - 1), most):
            tap, pad = (0, by) if sign < 0 else (by, 0)
            found.append(Step(by + 1, tap, 1, pad, size, size, Join.SELF))
    strides = _factors(stride, chip.max_stride)
    if strides is None:
        return None
    for number, by in enumerate(strides):
        left = out * math.prod(strides[number + 1 :]) if number + 1 < len(strides) else out
        kept = min(left, -(-size // by))
        found.append(Step(1, 0, by, 0, size, kept, Join.NONE))
        size = kept
    if not strides and out != size:
        found.append(Step(1, 0, 1, 0, size, out, Join.NONE))
    return found


def _growth(wanted: int, most: int) -> Iterator[int]:
    """Yield by how much a window grows to one side in each step, until it reaches `wanted`."""
    reach = 0
    while reach < wanted:
        by = min(reach + 1, wanted - reach, most)
        yield by
        reach += by


def _factors(stride: int, most: int) -> list[int] | None:
    """Return strides up to `most` that make `stride` together; None where there are none."""
    found = []
    while stride > most:
        by = next((f for f in range(most, 1, -1) if stride % f == 0), None)
        if by is None:
            return None
        found.append(by)
        stride //= by
    return [*found, stride] if stride > 1 else found
