"""Views of tensors' bytes: a first byte, and a size and a step for each axis, as numpy has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from teflon_common.layout import image_shape
from teflon_etnaviv.tensors import Layout
from teflon_etnaviv.tp.pieces import Axis, Piece, pieces

Sizes = tuple[int, ...]


class View(NamedTuple):
    """Elements of a tensor: the first one's byte; a size, and bytes to the next element, for each
    axis.
    """

    start: int
    sizes: Sizes
    steps: Sizes

    @classmethod
    def of(cls, shape: Sizes, layout: Layout) -> View:
        """Return all elements of a tensor. In planes, images lie below one another."""
        images, height, width, _ = image_shape(shape)
        if layout is Layout.ROWS:
            steps = [1]
            for size in reversed(shape[1:]):
                steps.insert(0, steps[0] * size)
        else:
            steps = [width, 1, images * height * width]
            for size in reversed(shape[1:-2]):
                steps.insert(0, steps[0] * size)
        return cls(0, shape, tuple(steps[len(steps) - len(shape) :]))

    def cut(self, begin: Sizes, size: Sizes, steps: Sizes | None = None) -> View:
        """Return a box: first element, count and step along each axis; steps may be negative."""
        by = steps or (1,) * len(size)
        start = self.start + sum(n * step for n, step in zip(begin, self.steps, strict=True))
        found = tuple(n * step for n, step in zip(by, self.steps, strict=True))
        return View(start, size, found)

    def permuted(self, order: Sequence[int]) -> View:
        """Return the same elements with the axes in another order."""
        sizes, steps = (tuple(some[axis] for axis in order) for some in self[1:])
        return View(self.start, sizes, steps)

    def inserted(self, axis: int) -> View:
        """Return the same elements with one more axis of size 1."""
        sizes = (*self.sizes[:axis], 1, *self.sizes[axis:])
        return View(self.start, sizes, (*self.steps[:axis], 0, *self.steps[axis:]))

    def unfolded(self, axis: int, inner: int) -> View:
        """Return the same elements with an axis as two, the inner one of this size."""
        size, step = self.sizes[axis], self.steps[axis]
        sizes = (*self.sizes[:axis], size // inner, inner, *self.sizes[axis + 1 :])
        steps = (*self.steps[:axis], step * inner, step, *self.steps[axis + 1 :])
        return View(self.start, sizes, steps)

    @property
    def axes(self) -> list[tuple[int, int]]:
        """Size and step of the axes that are longer than 1."""
        pairs = zip(self.sizes, self.steps, strict=True)
        return [(size, step) for size, step in pairs if size > 1]

    def lies_as(self, other: View) -> bool:
        """Whether the elements of both lie alike, wherever they begin."""
        return self.axes == other.axes

    def pieces(self, target: View) -> list[Piece]:
        """Return the jobs of the TP cores that copy these elements to those of another view."""
        if 0 in self.sizes:
            return []
        axes = [
            Axis(size, read, written)
            for (size, read), (_, written) in zip(self.axes, target.axes, strict=True)
        ]
        return pieces(axes, self.start, target.start)
