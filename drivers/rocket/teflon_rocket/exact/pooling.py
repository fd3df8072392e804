# Ref: docs/hardware/rocket_vendor.md §4 (why not on the PPU), §0.10 (largest of two maps)
"""The largest of each window, as depthwise convolutions that shift a map and compare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from teflon.errors import LimitExceeded
from teflon_common.layout import LANES
from teflon_rocket.chips import Chip
from teflon_rocket.exact.encode import DoesNotFit
from teflon_rocket.exact.layers import Range
from teflon_rocket.exact.scales import Bounds, Window, early_clamps, pad_word
from teflon_rocket.exact.split import split
from teflon_rocket.exact.windows import Axis, Join, Step, cost, steps
from teflon_rocket.operations.convolution import Coefs, Convolution, Geometry, Numbers
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.numbers import NO_CLAMPS, Clamps, Converter, Operand
from teflon_rocket.operations.stages import Kind

ALL = (0, 255)
_ZERO = 128
"""Weights' zero point, and the input's: the byte 0 in memory."""
_ONE = _ZERO + 1
_UNIT = Converter(0, 1 << 14, 14)
"""Leaves numbers as they are."""
_BYTES = Bounds(-128, 127)


class Pool(NamedTuple):
    """Windows over a map; pairs are (rows, columns), `before` is the padding above and left."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    before: tuple[int, int]


def largest(
    name: str, source: Feature, output: Feature, pool: Pool, clamp: Range, chip: Chip
) -> Iterator[Convolution]:
    """Yield the convolutions that write the largest of each window, limited to a range of bytes
    (uint8's domain).

    Raises LimitExceeded for windows out of reach.
    """
    way = list(_way(name, source.shape, output.shape, pool, chip))
    if not way or clamp != ALL:
        axis = output.shape[2]
        way.append((1, Step(1, 0, 1, 0, axis, axis, Join.NONE)))
    maps = [source]
    for number, (axis, step) in enumerate(way):
        last = number + 1 == len(way)
        shifted = maps[-step.back]
        size = list(shifted.shape)
        size[1 + axis] = step.out
        shape = (size[0], size[1], size[2], size[3])
        target = output if last else Feature(f"{name}/{number}", shape, flip=source.flip)
        operand = {Join.NONE: None, Join.SELF: shifted, Join.BEFORE: maps[-1]}[step.join]
        limits = _limits(clamp, name) if last else NO_CLAMPS
        yield _shift(name, shifted, operand, target, axis, step, limits, chip)
        maps.append(target)


def _way(
    name: str,
    inside: tuple[int, int, int, int],
    outside: tuple[int, int, int, int],
    pool: Pool,
    chip: Chip,
) -> list[tuple[int, Step]]:
    """Return the cheapest steps, each with its axis: 0 for rows, 1 for columns."""
    atoms = inside[0] * -(-inside[3] // LANES) * LANES
    axes = [
        Axis(inside[1 + n], outside[1 + n], pool.kernel[n], pool.stride[n], pool.before[n])
        for n in range(2)
    ]
    best: list[tuple[int, Step]] | None = None
    least = 0
    for first, second in ((0, 1), (1, 0)):
        before, after = atoms * axes[second].size, atoms * axes[first].out
        one, two = steps(axes[first], chip, before), steps(axes[second], chip, after)
        if one is None or two is None:
            high, wide = pool.kernel
            raise LimitExceeded(
                f"windows of {high}x{wide}, {pool.stride[0]}x{pool.stride[1]} apart, cannot be made"
                f" of kernels up to {chip.max_kernel} and strides up to {chip.max_stride}",
                where=name,
            )
        price = cost(one, before) + cost(two, after)
        if best is None or price < least:
            best = [*((first, step) for step in one), *((second, step) for step in two)]
            least = price
    assert best is not None
    return best


def _limits(clamp: Range, name: str) -> Clamps:
    if clamp == ALL:
        return NO_CLAMPS
    low, high = (edge - _ZERO for edge in clamp)
    return early_clamps(Window(low, high), _BYTES, name)


def _shift(
    name: str,
    source: Feature,
    operand: Feature | None,
    target: Feature,
    axis: int,
    step: Step,
    limits: Clamps,
    chip: Chip,
) -> Convolution:
    """Return the convolution of one step."""
    images, height, width, channels = source.shape
    kernel, stride, pads = [1, 1], [1, 1], [0, 0, 0, 0]  # x before y
    kernel[1 - axis], stride[1 - axis] = step.kernel, step.stride
    side = 2 if axis == 0 else 0
    pads[side : side + 2] = step.before, step.after
    geometry = Geometry(
        width, height, channels, target.shape[2], target.shape[1], channels,
        kernel=(kernel[0], kernel[1]), stride=(stride[0], stride[1]),
        pads=(pads[0], pads[1], pads[2], pads[3]), depthwise=True, images=images,
        in_addition=True,
    )  # fmt: skip
    weights = np.full((1, step.kernel, channels), _ZERO, np.uint8)
    weights[0, step.tap] = _ONE
    coefs = Coefs(weights, _ZERO, np.zeros(channels, np.int64), _ZERO, True)
    found = split(geometry, chip)
    if found is None:
        raise DoesNotFit(
            f"{step.kernel} elements of {channels} channels do not fit the convolution buffer of"
            f" {chip.cbuf_bytes} bytes",
            where=name,
        )
    numbers = Numbers(compensation=0, pad=pad_word(0), output=_UNIT, clamps=limits)
    other = None if operand is None else Operand(operand, _UNIT, Kind.MAXIMUM)
    return Convolution(name, source, target, geometry, found, coefs, numbers, other)
