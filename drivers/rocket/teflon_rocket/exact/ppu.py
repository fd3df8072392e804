# Ref: docs/hardware/rocket_vendor.md §2 (limits, line buffer, cascades), §4 (when it may be used)
"""Pooling on the PPU, for kernels of the operating system that wait for its interrupts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from teflon_rocket.chips import Chip
from teflon_rocket.exact.pooling import Pool
from teflon_rocket.operations.data import Feature, whole_pitch
from teflon_rocket.operations.pooling import Pooling


def takes(source: Feature, output: Feature, pool: Pool, average: bool, chip: Chip) -> bool:
    """Whether the PPU is to be used, and can: larger kernels are made of several for the largest of
    a window, not for its mean.
    """
    if not chip.ppu or max(pool.stride) > chip.ppu_stride or not _whole(source, output):
        return False
    if average:
        return max(pool.kernel) <= chip.ppu_kernel and not any(pool.before)
    return all(
        _last(output.shape[1 + n], pool, n) < source.shape[1 + n] + pool.before[n] for n in range(2)
    )


def _whole(*features: Feature) -> bool:
    """Whether surfaces are whole 64 bytes, or those of one pixel."""
    return all(f.surface_pixels in (whole_pitch(1, f.surface_pixels), 1) for f in features)


def _last(out: int, pool: Pool, axis: int) -> int:
    """Return where the last window begins, counted from the first padding."""
    return (out - 1) * pool.stride[axis]


def pooled(
    name: str, source: Feature, output: Feature, pool: Pool, average: bool, zero: int, chip: Chip
) -> Iterator[Pooling]:
    """Yield the passes of the PPU: each makes windows of at most its largest kernel.

    zero: the input's zero point as a byte.

    Windows of k and of m elements one after the other are windows of k + m - 1; what padding hides
    of a window beside the map is in its neighbour within it.
    """
    most, left = chip.ppu_kernel, pool
    while max(left.kernel) > most:
        size = (min(left.kernel[0], most), min(left.kernel[1], most))
        high, wide = (_first(source, output, left, size[axis], axis) for axis in range(2))
        before = (high.before, wide.before)
        shape = (source.shape[0], high.out, wide.out, source.shape[3])
        middle = Feature.between(f"{name}/{high.out}x{wide.out}", shape, source.flip)
        yield _pass(name, source, middle, Pool(size, (1, 1), before), average, zero, chip)
        source, left = (
            middle,
            Pool(
                (left.kernel[0] - size[0] + 1, left.kernel[1] - size[1] + 1),
                left.stride,
                (left.before[0] - before[0], left.before[1] - before[1]),
            ),
        )
    yield _pass(name, source, output, left, average, zero, chip)


class _Axis(NamedTuple):
    """The first pass of several, along one axis: padding in front, and size of what it makes."""

    before: int
    out: int


def _first(source: Feature, output: Feature, pool: Pool, size: int, axis: int) -> _Axis:
    """Return a first pass with kernels of `size`, which has its share of all padding."""
    inside, kernel, before = source.shape[1 + axis], pool.kernel[axis], pool.before[axis]
    covered = _last(output.shape[1 + axis], pool, axis) + kernel
    after = max(covered - inside - before, 0)
    own, behind = (pad * (size - 1) // max(kernel - 1, 1) for pad in (before, after))
    used = covered - size + 1 - (before - own)
    return _Axis(own, min(used, inside + own + behind - size + 1))


def _pass(
    name: str, source: Feature, target: Feature, pool: Pool, average: bool, zero: int, chip: Chip
) -> Pooling:
    open_rows = -(-pool.kernel[0] // pool.stride[0])
    columns = chip.ppu_columns >> (open_rows - 1).bit_length()
    return Pooling(
        name, source, target, pool.kernel, pool.stride, pool.before, columns,
        average=average, fill=zero,
    )  # fmt: skip
