"""Resizing along one axis: which input positions each output position is made of.

With a ratio of p to q, outputs p apart are made alike of inputs q apart: a phase.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from teflon.ir.ops import ResizeBilinear, ResizeNearestNeighbor
from teflon.ir.types import DType

Resizing = ResizeNearestNeighbor | ResizeBilinear

_KERNEL_ONE = 1 << 10
"""TFLite's kernel of int8 counts positions in 1/1024."""
_ERROR = 1 / 1024
"""Distance from TFLite's positions: so far it moves results by a quarter of a step at most."""


class Phase(NamedTuple):
    """Outputs first, first + step, ... are made of the inputs at `source`, source + stride, ...

    share: how much of each is the next input.
    """

    first: int
    step: int
    lines: int
    source: int
    stride: int
    share: Fraction = Fraction(0)

    @property
    def taps(self) -> int:
        """Inputs of one output."""
        return 2 if self.share else 1

    @property
    def last(self) -> int:
        """The last input."""
        return self.source + (self.lines - 1) * self.stride + self.taps - 1


def nearest(op: ResizeNearestNeighbor) -> tuple[list[Phase], list[Phase]]:
    """Return the phases of rows and of columns."""
    _, height, width, _ = op.input.shape
    numbers = np.arange(height * width).reshape(1, height, width, 1)
    (found,) = op.evaluate(numbers)
    rows, columns = found[0, :, 0, 0] // width, found[0, 0, :, 0] % width
    return _runs(rows.tolist(), height), _runs(columns.tolist(), width)


def _runs(sources: Sequence[int], size: int) -> list[Phase]:
    """Return phases of outputs that are copies of these inputs: periodic ones where they are."""
    common = math.gcd(len(sources), size)
    step, stride = len(sources) // common, size // common
    for first in range(step):
        some = sources[first::step]
        if list(some) != [some[0] + stride * n for n in range(len(some))]:
            return [Phase(n, 1, 1, source, 1) for n, source in enumerate(sources)]
    return [
        Phase(first, step, len(sources[first::step]), sources[first], stride)
        for first in range(step)
    ]


def bilinear(op: ResizeBilinear) -> tuple[list[Phase], list[Phase]]:
    """Return the phases of rows and of columns; positions may lie outside the map."""
    sizes = zip(op.input.shape[1:3], op.output.shape[1:3], strict=True)
    rows, columns = (list(_interpolated(op, *size)) for size in sizes)
    return rows, columns


def _interpolated(op: ResizeBilinear, size: int, wanted: int) -> Iterator[Phase]:
    if size == 1:
        yield from (Phase(number, wanted, 1, 0, 1) for number in range(wanted))
        return
    scale = _scale(op, size, wanted)
    step, stride = scale.denominator, scale.numerator
    for first in range(min(step, wanted)):
        place = _place(op, scale, first)
        source = math.floor(place)
        lines = len(range(first, wanted, step))
        apart = stride if lines > 1 else 1
        yield Phase(first, step, lines, source, apart, place - source)


def _scale(op: ResizeBilinear, size: int, wanted: int) -> Fraction:
    less = 1 if op.align_corners and wanted > 1 else 0
    return Fraction(size - less, wanted - less)


def _place(op: ResizeBilinear, scale: Fraction, number: int) -> Fraction:
    half = Fraction(1, 2) if op.half_pixel_centers else Fraction(0)
    return (number + half) * scale - half


def uncounted(op: ResizeBilinear) -> str | None:
    """Say how far off TFLite's kernel counts its positions, where that moves results."""
    error = kernel_error(op)
    if op.input.type.dtype is not DType.INT8 or error <= _ERROR:
        return None
    return f"its positions are up to {error:.3f} pixels off"


def kernel_error(op: ResizeBilinear) -> float:
    """Return how far TFLite's positions for int8 are from the exact ones, at most."""
    worst = Fraction(0)
    for size, wanted in zip(op.input.shape[1:3], op.output.shape[1:3], strict=True):
        scale = _scale(op, size, wanted)
        rounded = Fraction(math.floor(scale * _KERNEL_ONE + Fraction(1, 2)), _KERNEL_ONE)
        places = (_place(op, scale, wanted - 1), _place(op, rounded, wanted - 1))
        worst = max(worst, abs(places[0] - places[1]))
    return float(worst)
