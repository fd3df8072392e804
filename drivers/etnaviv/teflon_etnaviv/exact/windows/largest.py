"""Largest elements of windows, exact for every byte.

Windows of 2x2 that do not overlap are what the output stage of the NN cores reduces. All others
are made of max(a, b) = a + max(b - a, 0): a convolution of two taps that cuts off at 0, and a sum.
Windows of 2, 4, 8... elements along an axis follow from windows of half the size, any other size
from two that overlap.

Ref: docs/hardware/etnaviv.md sections 3.1 (pooling), 4.9 (sums)
Ref: docs/hardware/etnaviv_vendor.md, engine chosen by the vendor (max pool 2x2/2)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers.planes import Cut, cut, halved, same_for_all, sum_of_two
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.windows.images import Pair, Planes, launch, surrounded, thinned
from teflon_etnaviv.rounding import align

_LOWEST = 0
"""The byte that is in no maximum; also the zero point: bytes are compared as they are."""


@dataclass(frozen=True)
class Windows:
    """Sizes along (height, width) of windows, how far they are apart, how many there are, and how
    many rows and columns of the first one lie outside.
    """

    kernel: Pair
    stride: Pair
    count: Pair
    before: Pair = (0, 0)

    @property
    def reach(self) -> Pair:
        """Rows and columns that all windows together cover."""
        high, wide = (
            (n - 1) * s + k for n, s, k in zip(self.count, self.stride, self.kernel, strict=True)
        )
        return high, wide


@dataclass(frozen=True)
class Plan:
    """How windows are reduced.

    size: rows and columns that the map needs; halvings: for each 2x2 reduction, along which axes
    elements are paired with their neighbours before it; rest: the windows that are then left.
    """

    size: Pair
    halvings: tuple[tuple[bool, bool], ...]
    rest: Windows


def plan(windows: Windows, have: Pair) -> Plan:
    """Return the fewest steps: 2x2 reductions as long as strides are even.

    Where there is one window along an axis, its stride may be any number. have: the map's size.
    """
    kernel = windows.kernel
    single = [count == 1 for count in windows.count]
    stride = windows.stride
    halvings: list[tuple[bool, bool]] = []
    while min(kernel) > 1 and all(one or s % 2 == 0 for one, s in zip(single, stride, strict=True)):
        halvings.append((kernel[0] % 2 == 1, kernel[1] % 2 == 1))
        kernel = kernel[0] // 2, kernel[1] // 2
        stride = max(stride[0] // 2, 1), max(stride[1] // 2, 1)
    unit = 1 << len(halvings)
    need = align(windows.reach[0], unit), align(windows.reach[1], unit)
    enough = all(n <= h and h % unit == 0 for n, h in zip(need, have, strict=True))
    size = have if enough and windows.before == (0, 0) else need
    return Plan(size, tuple(halvings), Windows(kernel, stride, windows.count))


def shapes(found: Plan) -> Iterator[Pair]:
    """Yield the sizes of all maps on the way."""
    high, wide = found.size
    yield high, wide
    for _ in found.halvings:
        high, wide = high // 2, wide // 2
        yield high, wide


def fits(found: Plan, channels: int, chip: Chip) -> bool:
    """Whether all maps can be cut into planes."""
    return all(cut(*size, channels, chip) is not None for size in shapes(found))


def largest(
    state: Lowering, name: str, source: Planes, windows: Windows, target: Planes, relu: bool
) -> None:
    """Write the largest element of each window; with `relu` none below the zero point."""
    found = plan(windows, source.size)
    here = surrounded(state, name, source, windows.before, found.size, _LOWEST)
    last = len(found.halvings) - 1
    done = here
    thins = found.rest.kernel != (1, 1)
    for number, pairs in enumerate(found.halvings):
        for axis in range(2):
            if pairs[axis]:
                here = _paired(state, name, here, axis, 1)
        size = here.height // 2, here.width // 2
        ends = number == last and not thins and size == target.size and not relu
        done = target if ends else here.fresh("halved", size)
        _halve(state, name, here, done)
        here = done
    for axis, want in enumerate(found.rest.kernel):
        for shift in doubled(want, state.chip.kernel_size_max - 1):
            here = _paired(state, name, here, axis, shift)
    if here is target:
        return
    end = target if not relu else here.fresh("chosen", target.size)
    thinned(state, name, here, end, found.rest.stride)
    if relu:
        shape = _cut(end, state.chip)
        zero = target.tensor.zero_point
        one = np.ones((1, 1), np.int64)
        layer = same_for_all(shape, one, 1, state.chip, zeros=(zero, zero), relu=True, title=name)
        launch(state, name, (end.tensor,), target.tensor, layer)


def doubled(want: int, most: int) -> Iterator[int]:
    """Yield shifts, at most `most`, by which windows of one element grow to so many."""
    have = 1
    while have < want:
        shift = min(have, want - have, most)
        yield shift
        have += shift


def _cut(planes: Planes, chip: Chip) -> Cut:
    found = cut(*planes.size, planes.channels, chip)
    assert found is not None, "a rule asks for it"
    return found


def _halve(state: Lowering, name: str, source: Planes, target: Planes) -> None:
    """Write the largest of each 2x2 elements."""
    one = np.ones((1, 1), np.int64)
    zeros = (_LOWEST, _LOWEST)
    layer = same_for_all(_cut(source, state.chip), one, 1, state.chip, zeros=zeros, title=name)
    launch(state, name, (source.tensor,), target.tensor, halved(layer, largest=True))


def _paired(state: Lowering, name: str, source: Planes, axis: int, shift: int) -> Planes:
    """Return planes in which each element is the larger of itself and of the one so many rows or
    columns behind; along the edge nothing is behind.
    """
    shape, size = _cut(source, state.chip), source.tensor.size_bytes
    kernel = np.zeros((shift + 1, 1) if axis == 0 else (1, shift + 1), np.int64)
    kernel.flat[0], kernel.flat[-1] = -1, 1
    zeros = (_LOWEST, _LOWEST)
    both = source.tensor.like(f"{name} (operands)", (1, 1, 1, 2 * size))
    one = state.live_inside(source.tensor, both, 0)
    more = source.fresh("more", source.size)
    state.places[more.tensor] = (both, size)
    made = source.fresh("larger", source.size)
    layer = same_for_all(shape, kernel, 1, state.chip, zeros=zeros, title=name)
    launch(state, name, (one,), more.tensor, layer)
    launch(state, name, (one, more.tensor), made.tensor, sum_of_two(shape, name))
    return made
