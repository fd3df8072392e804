# Ref: docs/hardware/rocket_vendor.md §4 (why not on the PPU), §0.10 (product of two maps)
# Ref: docs/hardware/rocket_vendor.md §2 (means by depthwise convolutions)
"""Means of windows, by depthwise convolutions with equal weights; the output's converter divides.

Where windows reach over the edge, only what is inside counts. EW then multiplies each sum by a
constant for its pixel, so that one division is right for all.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from teflon.errors import LimitExceeded
from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_rocket.chips import Chip
from teflon_rocket.exact.encode import DoesNotFit, convolutions
from teflon_rocket.exact.layers import Layer, Range
from teflon_rocket.exact.pooling import ALL, Pool, largest
from teflon_rocket.exact.scales import Affine, output_multiplier, pad_word
from teflon_rocket.exact.split import split
from teflon_rocket.operations.convolution import Coefs, Convolution, Geometry, Numbers
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.numbers import Converter, Operand
from teflon_rocket.operations.stages import Kind

_ZERO = 128
"""Weights' zero point; and the byte 0 in memory, which sums of bytes leave as it is."""
_TWICE = 2
"""A mean of means is rounded twice: within a step while a step of the input is worth less than so
many of the output."""
_MOST_FACTOR = 255
_AWAY = 1 + 2**-14
"""Takes halves away from zero: more than a multiplier of 15 bits is wrong by."""
_MOST_TAPS = 84
"""Of windows where that moves nothing but halves: 128 * (_AWAY - 1) and as much as a multiplier is
wrong by is less than one part of them."""
_FACTOR_ZERO = 128
"""A factor is stored as a byte, less this."""


class Ties(enum.Enum):
    """Where means go that lie in the middle of two numbers."""

    EVEN = "to the even one"
    UP = "to the larger one"
    AWAY = "to the one further from the byte 0"


def mean(
    name: str,
    source: Feature,
    output: Feature,
    pool: Pool,
    scales: tuple[Affine, Affine],
    clamp: Range,
    chip: Chip,
    ties: Ties = Ties.EVEN,
) -> Iterator[Convolution]:
    """Yield the convolutions that write the mean of each window; none may leave the map.

    scales: of input and output. ties: of what one convolution makes, in windows of up to 84
    elements. Raises LimitExceeded where the numbers cannot be expressed.
    """
    before, after = scales
    parts = _parts(name, source, pool, before.scale / after.scale, chip)
    if len(parts) > 1:
        ties = Ties.EVEN
    for part in parts[:-1]:
        middle = Feature(f"{name}/means", _shape(source, part), flip=source.flip)
        layer = _layer(name, source, middle, part, (before, before), ALL, ties)
        yield from convolutions(layer, chip, False)
        source = middle
    last = _layer(name, source, output, parts[-1], scales, clamp, ties)
    yield from convolutions(last, chip, False)


def _shape(source: Feature, pool: Pool) -> tuple[int, int, int, int]:
    """Return what pooling without padding makes of a map."""
    images, height, width, channels = source.shape
    high = (height - pool.kernel[0]) // pool.stride[0] + 1
    wide = (width - pool.kernel[1]) // pool.stride[1] + 1
    return images, high, wide, channels


def _geometry(source: Feature, outside: Sequence[int], pool: Pool) -> Geometry:
    """Return the sizes of a depthwise convolution; padding below and right as the output needs."""
    images, height, width, channels = source.shape
    after = [
        max((outside[1 + n] - 1) * pool.stride[n] + pool.kernel[n] - source.shape[1 + n] - pad, 0)
        for n, pad in enumerate(pool.before)
    ]
    return Geometry(
        width, height, channels, outside[2], outside[1], channels,
        kernel=(pool.kernel[1], pool.kernel[0]), stride=(pool.stride[1], pool.stride[0]),
        pads=(pool.before[1], after[1], pool.before[0], after[0]), depthwise=True, images=images,
    )  # fmt: skip


def _coefs(geometry: Geometry, input_zero: int, weight: int = 1, bias: int = 0) -> Coefs:
    """Return equal weights and biases."""
    weights = np.full(geometry.weights_shape, _ZERO + weight, np.uint8)
    biases = np.full(geometry.channels, bias, np.int64)
    return Coefs(weights, _ZERO, biases, input_zero, True)


def _layer(
    name: str,
    source: Feature,
    target: Feature,
    pool: Pool,
    scales: tuple[Affine, Affine],
    clamp: Range,
    ties: Ties,
) -> Layer:
    before, after = scales
    geometry = _geometry(source, target.shape, pool)
    unit, weight, bias = before.scale / geometry.taps, 1, 0
    if geometry.taps % 2 == 0 and geometry.taps <= _MOST_TAPS:
        if ties is Ties.UP:
            unit, weight, bias = unit / 2, 2, 1  # half of the smallest part of a step
        elif ties is Ties.AWAY:
            unit *= _AWAY
    coefs = _coefs(geometry, before.zero, weight, bias)
    return Layer(name, source, target, geometry, coefs, unit, after, clamp)


def _parts(name: str, source: Feature, pool: Pool, ratio: float, chip: Chip) -> list[Pool]:
    """Return one pool, or two in a row where kernel or stride is too large for one."""
    if _fits(source, pool, chip):
        return [pool]
    several = [size > 1 for size in _shape(source, pool)[1:3]]
    factors = [
        _blocks(kernel, stride if many else 0, chip)
        for kernel, stride, many in zip(pool.kernel, pool.stride, several, strict=True)
    ]
    for high, wide in itertools.product(*factors) if ratio < _TWICE else ():
        blocks = Pool((high, wide), (high, wide), (0, 0))
        rest = Pool(
            (pool.kernel[0] // high, pool.kernel[1] // wide),
            (max(pool.stride[0] // high, 1), max(pool.stride[1] // wide, 1)),
            (0, 0),
        )
        if _fits(source, blocks, chip) and _fits(Feature("", _shape(source, blocks)), rest, chip):
            return [blocks, rest]
    high, wide = pool.kernel
    raise DoesNotFit(
        f"the mean of {high}x{wide} elements of {source.shape[3]} channels,"
        f" {pool.stride[0]}x{pool.stride[1]} apart, needs kernels of more than {chip.max_kernel}"
        f" rows or columns, strides of more than {chip.max_stride}, or more than the convolution"
        " buffer",
        where=name,
    )


def _blocks(kernel: int, stride: int, chip: Chip) -> list[int]:
    """Return into blocks of what size windows can be cut, the largest first; 1 comes last."""
    common = math.gcd(kernel, stride)
    return [by for by in range(min(common, chip.max_stride), 0, -1) if common % by == 0]


def _fits(source: Feature, pool: Pool, chip: Chip) -> bool:
    """Whether one convolution can do it."""
    if max(pool.kernel) > chip.max_kernel or max(pool.stride) > chip.max_stride:
        return False
    return split(_geometry(source, _shape(source, pool), pool), chip) is not None


# Windows over the edge ---------------------------------------------------------------------------


def mean_inside(
    name: str, source: Feature, output: Feature, pool: Pool, clamp: Range, chip: Chip
) -> Iterator[Convolution]:
    """Yield the convolutions that write the mean of what is inside in each window.

    Where one constant for each pixel does not fit a byte, rows come first and then columns: each is
    rounded. Raises LimitExceeded where that does not suffice either.
    """
    rows, columns = (_counts(source, output, pool, axis) for axis in range(2))
    last = output if clamp == ALL else Feature(f"{name}/means", output.shape, flip=source.flip)
    both = np.multiply.outer(rows, columns)
    if _factors(both) is not None:
        yield _weighted(name, source, last, pool, both, chip)
    else:
        shape = (source.shape[0], output.shape[1], source.shape[2], source.shape[3])
        middle = Feature(f"{name}/rows", shape, flip=source.flip)
        high, wide = (
            Pool((pool.kernel[0], 1), (pool.stride[0], 1), (pool.before[0], 0)),
            Pool((1, pool.kernel[1]), (1, pool.stride[1]), (0, pool.before[1])),
        )
        over = np.multiply.outer(rows, np.ones(shape[2], np.int64))
        yield _weighted(name, source, middle, high, over, chip)
        over = np.multiply.outer(np.ones(shape[1], np.int64), columns)
        yield _weighted(name, middle, last, wide, over, chip)
    if last is not output:
        yield from largest(name, last, output, Pool((1, 1), (1, 1), (0, 0)), clamp, chip)


def _counts(source: Feature, output: Feature, pool: Pool, axis: int) -> Array:
    """Return how many elements of each window along an axis are inside."""
    first = np.arange(output.shape[1 + axis]) * pool.stride[axis] - pool.before[axis]
    last = np.minimum(first + pool.kernel[axis], source.shape[1 + axis])
    counts: Array = last - np.maximum(first, 0)
    return counts


def _factors(counts: Array) -> tuple[int, Array] | None:
    """Return a number that all counts divide, and the quotients; None where they fit no byte."""
    common = math.lcm(*np.unique(counts).tolist())
    if common > _MOST_FACTOR * int(counts.min()):  # of many counts it may be beyond 64 bits
        return None
    return common, common // counts


def _weighted(
    name: str, source: Feature, target: Feature, pool: Pool, counts: Array, chip: Chip
) -> Convolution:
    """Return the convolution that sums, multiplies by a constant for each pixel and divides."""
    geometry = _geometry(source, target.shape, pool)
    found, factors = split(geometry, chip), _factors(counts)
    limits = (
        (pool.kernel, chip.max_kernel), (pool.stride, chip.max_stride), (pool.before, chip.max_pad)
    )  # fmt: skip
    if found is None or any(max(sizes) > most for sizes, most in limits):
        raise DoesNotFit(
            f"windows of {pool.kernel[0]}x{pool.kernel[1]}, {pool.stride[0]}x{pool.stride[1]}"
            f" apart, do not fit the convolution buffer, or need kernels of more than"
            f" {chip.max_kernel}, strides of more than {chip.max_stride} or padding of more than"
            f" {chip.max_pad}",
            where=name,
        )
    if factors is None:
        raise LimitExceeded(
            f"windows over the edge hold {counts.min()} to {counts.max()} elements, must have"
            f" counts with a common multiple of at most {_MOST_FACTOR} times the least",
            where=name,
        )
    common, each = factors
    divisor = output_multiplier(1 / common, name)
    output = Converter(0, divisor.multiplier, divisor.shift)
    numbers = Numbers(compensation=0, pad=pad_word(_ZERO), output=output)
    converter = Converter(_FACTOR_ZERO, 1, 0)
    constant = _surfaces(each, geometry.padded_out_channels // LANES)
    operand = Operand(target, converter, Kind.MULTIPLY, constant)
    return Convolution(
        name, source, target, geometry, found, _coefs(geometry, _ZERO), numbers, operand
    )


def _surfaces(factors: Array, count: int) -> Constant:
    """Return factors [rows, columns] as a feature map of so many surfaces."""
    stored = (factors.reshape(1, -1, 1) - _FACTOR_ZERO).astype(np.int8)
    data = np.broadcast_to(stored, (count, factors.size, LANES)).tobytes()
    return Constant("multipliers", data, len(data))
