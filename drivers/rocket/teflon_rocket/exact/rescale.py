# Ref: docs/hardware/rocket_vendor.md §0.3, §1 (activations), §2 (elementwise: Relu, Clip; copies)
"""One tensor through a pass of the DPU: another scale and zero point, and limits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from teflon.errors import LimitExceeded
from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_common.quantize import Multiplier
from teflon_rocket.chips import Chip
from teflon_rocket.exact.pieces import pieces
from teflon_rocket.exact.scales import SCALE_BITS, Affine, output_multiplier, threshold_high
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.passes import UNCHANGED, Pass, Size
from teflon_rocket.operations.stages import OFF, Source, Stage

ALL = (0, 255)
"""The range of an output, in uint8's domain, that nothing limits."""
FRACTION = 14
"""Bits that a value keeps below one step of its tensor."""
_INT32 = 2**31
_MOST_RATIO = 2**13
_MOST_SLOPE = 256
_SLOPE_ERROR = 0.45
"""Steps of the output, before it is rounded."""


class Rescaling(NamedTuple):
    """The stages and the converter of a pass without a second operand."""

    bs: Stage
    bn: Stage
    output: Converter


def requantise(
    name: str,
    source: Source,
    target: Source,
    size: Size,
    before: Affine,
    after: Affine,
    clamp: tuple[int, int] = ALL,
) -> Pass:
    """Return the pass that copies `source` to `target` and changes its scale and zero point.

    clamp: the smallest and the largest output, in uint8's domain. Raises LimitExceeded where the
    ratio of the scales is out of reach.
    """
    bs, bn, output = rescaling(name, before, after, clamp)
    return Pass(name, source, target, size, bs=bs, bn=bn, output=output)


def rescaled(
    name: str, source: Feature, target: Feature, numbers: Rescaling, chip: Chip
) -> Iterator[Pass]:
    """Yield the passes from one whole map to another one of its shape."""
    for piece in pieces(target.shape, chip):
        yield Pass(
            name,
            piece.of(Source(source)),
            piece.of(Source(target)),
            piece.size,
            numbers.bs,
            numbers.bn,
            output=numbers.output,
        )


def rescaling(name: str, before: Affine, after: Affine, clamp: tuple[int, int] = ALL) -> Rescaling:
    """Return the numbers of `requantise`."""
    if before == after and clamp == ALL:
        return Rescaling(OFF, OFF, UNCHANGED)
    centred = Stage(add=128 - before.zero)
    if clamp != ALL and before == after:
        return Rescaling(_limited(clamp), OFF, Converter(clamp[0] - 128, 1, 0))
    real = before.scale / after.scale
    if clamp == (after.zero, 255):
        return Rescaling(centred._replace(relu=True), OFF, converter(real, after.zero, name))
    if clamp == ALL:
        return Rescaling(centred, OFF, converter(real, after.zero, name))
    _check_ratio(name, real)
    factor = output_multiplier(real * 2.0**-FRACTION, name)
    bs, bn = _window(factor, before.zero, after.zero, clamp, name)
    return Rescaling(bs, bn, Converter(clamp[0] - 128, factor.multiplier, factor.shift))


def sloped(name: str, before: Affine, after: Affine, slopes: Array, channels: int) -> Rescaling:
    """Return the numbers of x for x >= 0 and slope * x below, with a slope for each channel.

    slopes: float64 [1] or [channels], finite. Raises LimitExceeded where the ratio of the scales or
    a slope is out of reach.
    """
    largest = float(np.abs(slopes).max())
    if not largest:
        return rescaling(name, before, after, (after.zero, ALL[1]))
    if largest >= _MOST_SLOPE:
        raise LimitExceeded(f"slope is {largest:g}, must be below {_MOST_SLOPE}", where=name)
    # Values from 0 on keep these bits in BS, the others get them from the slope.
    bits = min(SCALE_BITS - math.frexp(largest)[1], FRACTION)
    factors = np.minimum(np.rint(slopes * 2.0**bits), 2**SCALE_BITS - 1).astype(np.int16)
    factor: int | Constant = int(factors[0])
    if slopes.size > 1:
        lanes = np.zeros(-(-channels // LANES) * LANES, "<i2")
        lanes[:channels] = factors
        factor = Constant("slopes", lanes.tobytes(), lanes.nbytes)
    real = before.scale / after.scale
    _check_ratio(name, real)
    _check_slopes(name, slopes, factors * 2.0**-bits, real)
    bs = Stage(add=128 - before.zero, factor=1 << bits, negative_shift=bits)
    bn = Stage(factor=factor, prelu=True)
    return Rescaling(bs, bn, converter(real * 2.0**-bits, after.zero, name))


def _check_ratio(where: str, real: float) -> None:
    """Raise LimitExceeded where a 2^-14 step of the input is more than half a step of the output.

    Limits are rounded to such steps.
    """
    if not real <= _MOST_RATIO:
        raise LimitExceeded(
            f"input scale is {real:g} times the output's, must be at most {_MOST_RATIO} times",
            where=where,
        )


def _check_slopes(where: str, slopes: Array, taken: Array, real: float) -> None:
    """Raise LimitExceeded where a slope that stands for another moves a result too far."""
    steps = 255 * real  # at most so many before the slope, and at most 255 after it
    reach = np.minimum(steps, 255 / np.maximum(np.abs(slopes), 255 / steps * 2.0**-60))
    error = float((np.abs(slopes - taken) * reach).max())
    if error > _SLOPE_ERROR:
        raise LimitExceeded(
            f"slopes from {np.abs(slopes).min():g} to {np.abs(slopes).max():g} with 15 bits move a"
            f" result by {error:.2f} steps, must be at most {_SLOPE_ERROR}",
            where=where,
        )


def converter(real: float, zero: int, where: str) -> Converter:
    """Return OUT_CVT's numbers for a factor and the value that stands for 0, in uint8's domain."""
    found = output_multiplier(real, where)
    return Converter(zero - 128, found.multiplier, found.shift)


def _window(
    factor: Multiplier, zero: int, result: int, clamp: tuple[int, int], where: str
) -> tuple[Stage, Stage]:
    """Return the BS that applies the upper limit and the BN that applies the lower one.

    zero, result: zero points of input and output. factor: from 2^-14 steps of the input to steps of
    the output, whose offset has to be the lower limit. Raises LimitExceeded where a limit does not
    fit 32 bits.
    """
    low, high = clamp
    origin = round((low - result) / factor.real) + (zero << FRACTION)
    ceiling = threshold_high(factor, high - low) + origin
    if abs(origin) >= _INT32 // 2 or ceiling < 0:
        raise LimitExceeded(
            f"limits {low} and {high} are {origin} and {ceiling} units of the input, must be less"
            " than 2^30 units from its smallest value, the upper one above it",
            where=where,
        )
    limited = high < ALL[1] and ceiling < ALL[1] << FRACTION
    bs = Stage(add=128, factor=1 << FRACTION, relu=limited, ceiling=ceiling if limited else None)
    return bs, Stage(add=-origin, relu=True)


def _limited(clamp: tuple[int, int]) -> Stage:
    """Return the BS of limits alone: the scale stays."""
    low, high = clamp
    ceiling = None if high >= ALL[1] else high - low
    return Stage(add=128 - low, relu=True, ceiling=ceiling)
