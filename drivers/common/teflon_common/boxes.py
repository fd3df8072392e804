"""Which part of its input an operation takes, and which part of its output an input becomes.

The axes of a `Part` are the tensor's own, all others those of devices: images, height, width,
channels; see `image_shape`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from teflon.ir.graph import Value
from teflon.ir.ops import (
    Concatenation,
    ExpandDims,
    Pack,
    Reshape,
    Slice,
    Split,
    SplitV,
    Squeeze,
    StridedSlice,
    Unpack,
)
from teflon_common.layout import image_shape

Shape = tuple[int, int, int, int]

CHANNELS = 3
_AXES = 4

Reshaping = Reshape | Squeeze | ExpandDims
Joining = Concatenation | Pack
Cutting = Split | SplitV | Unpack | Slice | StridedSlice


class Cut(NamedTuple):
    """A box of a map: first element, count and step along each of the device's axes."""

    value: Value
    begin: Shape
    size: Shape
    steps: Shape = (1, 1, 1, 1)

    @property
    def contiguous(self) -> bool:
        """Whether all steps are 1, or do not matter."""
        return all(
            step == 1 or count == 1 for step, count in zip(self.steps, self.size, strict=True)
        )


def axis_of(axis: int, rank: int) -> int:
    """Return the device's axis of an axis; negative for what counts as images."""
    return axis + _AXES - rank


def same_pixels(one: Shape, other: Shape) -> bool:
    """Whether both shapes are the same pixels of the same channels, in the same order."""
    (images, height, width, channels), pixels = one, other[1] * other[2]
    return images == other[0] and channels == other[3] and height * width == pixels


def inserted(shape: tuple[int, ...], axis: int, size: int = 1) -> tuple[int, ...]:
    """Return a shape with a further axis."""
    return (*shape[:axis], size, *shape[axis:])


class Part(NamedTuple):
    """What a result is of an operation's input: first element, count and step along each of the
    input's axes.
    """

    value: Value
    begin: tuple[int, ...]
    size: tuple[int, ...]
    steps: tuple[int, ...]


def parts(op: Cutting) -> Iterator[Part]:
    """Yield for each result of an operation what it is of the input."""
    whole = op.input.shape
    zeros, ones = (0,) * len(whole), (1,) * len(whole)
    if isinstance(op, Slice):
        yield Part(op.output, op.begin, op.size, ones)
    elif isinstance(op, StridedSlice):
        numbers = zip(op.begin, op.end, op.strides, strict=True)
        size = tuple(max(0, -((begin - end) // step)) for begin, end, step in numbers)
        yield Part(op.output, op.begin, size, op.strides)
    else:
        first = 0
        for value in op.outputs:
            count = 1 if isinstance(op, Unpack) else value.shape[op.axis]
            begin = (*zeros[: op.axis], first, *zeros[op.axis + 1 :])
            size = (*whole[: op.axis], count, *whole[op.axis + 1 :])
            yield Part(value, begin, size, ones)
            first += count


def cuts(op: Cutting) -> Iterator[Cut]:
    """Yield for each result of an operation what it is of the input, along the device's axes."""
    for value, begin, size, steps in parts(op):
        zeros, ones = (0,) * (_AXES - len(size)), (1,) * (_AXES - len(size))
        yield Cut(value, *_four((*zeros, *begin), (*ones, *size), (*ones, *steps)))


def _four(*numbers: tuple[int, ...]) -> Iterator[Shape]:
    for some in numbers:
        first, second, third, fourth = some[-_AXES:]
        yield first, second, third, fourth


class Joined(NamedTuple):
    """An input of an operation that joins: its shape there, and where it begins along the axis."""

    value: Value
    shape: Shape
    begin: int


def join_axis(op: Joining) -> int:
    """Return the device's axis along which an operation joins."""
    return axis_of(op.axis, op.output.type.rank)


def joined(op: Joining) -> Iterator[Joined]:
    """Yield the inputs of an operation that joins, in order."""
    axis, begin = join_axis(op), 0
    for value in op.inputs:
        shape = inserted(value.shape, op.axis) if isinstance(op, Pack) else value.shape
        found = image_shape(shape)
        yield Joined(value, found, begin)
        begin += found[axis]
