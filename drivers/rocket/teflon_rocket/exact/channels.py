# Ref: docs/hardware/rocket_vendor.md §0.1 to §0.3 (operands for each channel, order of the stages)
# Ref: docs/hardware/rocket.md §8.4 (values between the stages have 32 bits)
"""One weight scale for each output channel: factors for BS and BN, with a bound of their error.

BS multiplies each channel by a factor of 15 bits in proportion to its scale, as the vendor's
programs do. Where the scales lie so far apart that small factors are too coarse, BS multiplies by
15 good bits and BN by a power of two. Channels of very small scale get coarser weights where that
does not matter. All errors are in steps of the output, before it is rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from teflon.errors import LimitExceeded
from teflon.ir.types import Array
from teflon_common.quantize import Multiplier
from teflon_rocket.exact.scales import channel_bounds, output_multiplier, threshold_high
from teflon_rocket.operations.convolution import Coefs
from teflon_rocket.operations.numbers import Channels, Converter
from teflon_rocket.operations.stages import OFF, Stage

FINE = 0.25
"""Error up to which BS alone multiplies, as the vendor's programs do."""
MOST = 0.7
"""Largest error. The reference rounds twice, by half a step and at most a quarter: so results are
less than two steps apart, that is one at most."""

_BITS = 14
"""The factor of the largest scale is 2^14."""
_UNIT = 1 / 32
"""Largest step of the numbers after BS, where 32 bits allow it: they are rounded to it."""
_COARSEST = 40
"""Weights are divided by 2^40 at most."""
_BIAS = 2**30
_INT32 = 2**31
_SAFE = _INT32 - 2**16


class Target(NamedTuple):
    """What results become: scale, zero point and limits of the output, in uint8's domain."""

    scale: float
    zero: int
    clamp: tuple[int, int]


class Scaled(NamedTuple):
    """A convolution's numbers: weights and biases, which may be coarser than the model's, what BS
    and BN do, the output's converter; a bound of the error of each channel.
    """

    coefs: Coefs
    channels: Channels
    output: Converter
    error: Array


class _Factors(NamedTuple):
    """Factors of BS, and of BN where it multiplies: v * late >> late_shift.

    ratio: what they are worth beside that of the largest scale, up to 1.
    """

    factor: Array
    ratio: Array
    late: Array | None = None
    late_shift: int = 0


_Kind = Callable[[Array], _Factors]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Channels: weights less zero point [channels, terms], bias, steps of the output that one unit
    of the accumulator is worth, error that comes from coarser weights.
    """

    weights: Array
    bias: Array
    steps: Array
    error: Array

    def some(self, which: Array) -> _Rows:
        return _Rows(*(values[which] for values in dataclasses.astuple(self)))

    def coarser(self, power: int, span: int) -> _Rows:
        """Return weights and biases divided by 2^power; span: largest input less zero point."""
        weights = np.rint(np.ldexp(self.weights.astype(np.float64), -power)).astype(np.int64)
        bias = np.rint(np.ldexp(self.bias.astype(np.float64), -power)).astype(np.int64)
        lost = np.abs(self.weights - np.left_shift(weights, power)).sum(axis=1).astype(np.float64)
        lost = lost * span + np.abs(self.bias - np.ldexp(bias.astype(np.float64), power))
        steps = np.ldexp(self.steps, power)
        return _Rows(weights.astype(np.int16), bias, steps, lost * self.steps)


def scaled(
    coefs: Coefs, units: Array, target: Target, where: str, slopes: Array | None = None
) -> Scaled:
    """Return the numbers of a convolution; units: what one step of the accumulator is worth, one
    for each output channel.

    slopes: what results below 0 are multiplied by, up to 1; one, or one for each output channel.
    BN does that, so BS alone has to bring channels to one scale, and the target has no limits.
    Raises LimitExceeded where the error could be larger than `MOST` or a value not fit 32 bits.
    """
    steps = units / target.scale
    distances = coefs.distances
    flat = distances[0].T if coefs.depthwise else distances.reshape(len(distances), -1)
    rows = _Rows(flat, coefs.bias, steps, np.zeros(len(steps)))
    extent = _extent(coefs, steps, target)
    for kind, limit in ((_alone, FINE), (_both, np.inf)):
        found, error = _improved(rows, extent, coefs, kind)
        if error.max() <= limit or slopes is not None:
            break
    changed = coefs if found is rows else _rebuilt(coefs, found)
    done = _finished(changed, kind(found.steps / steps.max()), error, extent, steps, target, where)
    return done if slopes is None else _bent(done, slopes, -channel_bounds(coefs)[0] * steps)


def _bent(found: Scaled, slopes: Array, lowest: Array) -> Scaled:
    """Return numbers whose BN multiplies what is below 0, which is `lowest` times -1 at most."""
    size = np.abs(slopes)
    shift = _BITS - int(np.frexp(size.max())[1]) + 1
    factors = np.minimum(np.rint(np.ldexp(slopes, shift)), 2 ** (_BITS + 1) - 1)
    seen = np.minimum(np.maximum(lowest, 0), 256 / np.maximum(size, 2.0**-40))
    wrong = np.abs(np.ldexp(factors, -shift) - slopes) * seen
    bn = Stage(prelu=True, negative_shift=shift)
    if slopes.size == 1:
        channels = dataclasses.replace(found.channels, bn=bn._replace(factor=int(factors[0])))
    else:
        channels = dataclasses.replace(found.channels, bn=bn, late=factors.astype(np.int64))
    return found._replace(channels=channels, error=found.error + wrong)


def _extent(coefs: Coefs, steps: Array, target: Target) -> Array:
    """Return the largest results that count: within reach, and at most a step beyond the limits."""
    least, most = target.clamp[0] - target.zero - 1, target.clamp[1] - target.zero + 1
    edges = [np.abs(np.clip(edge * steps, least, most)) for edge in channel_bounds(coefs)]
    largest: Array = np.maximum(*edges)
    return largest


def _alone(ratio: Array) -> _Factors:
    """Return factors of BS alone."""
    factor = np.rint(ratio * 2**_BITS)
    return _Factors(factor.astype(np.int64), factor / 2**_BITS)


def _both(ratio: Array) -> _Factors:
    """Return factors of BS with all their bits, and powers of two for BN."""
    power = np.clip(np.floor(np.log2(ratio)), -_BITS, 0).astype(np.int64)
    factor = np.minimum(np.rint(np.ldexp(ratio, _BITS - power)), 2 ** (_BITS + 1) - 1)
    late = np.left_shift(1, power - power.min())
    return _Factors(
        factor.astype(np.int64), np.ldexp(factor, power - _BITS), late, -int(power.min())
    )


def _improved(rows: _Rows, extent: Array, coefs: Coefs, kind: _Kind) -> tuple[_Rows, Array]:
    """Return the channels, coarser where that is better, and the errors that factors make then."""
    top = rows.steps.max()

    def error(some: _Rows, extent: Array) -> Array:
        ratio = some.steps / top
        wrong = np.abs(kind(np.minimum(ratio, 1)).ratio / ratio - 1) * extent + some.error
        return np.where((ratio > 1) | (np.abs(some.bias) > _BIAS), np.inf, wrong)

    best = error(rows, extent)
    failing = np.flatnonzero(best > FINE)
    if not len(failing):
        return rows, best
    weights, bias, steps, lost = (values.copy() for values in dataclasses.astuple(rows))
    worse, span = rows.some(failing), max(coefs.input_zero, 255 - coefs.input_zero)
    for power in range(1, _COARSEST):
        trial = worse.coarser(power, span)
        have = error(trial, extent[failing])
        better = have < best[failing]
        chosen = failing[better]
        weights[chosen], bias[chosen] = trial.weights[better], trial.bias[better]
        steps[chosen], lost[chosen], best[chosen] = trial.steps[better], have[better], have[better]
    return _Rows(weights, bias, steps, lost), best


def _rebuilt(coefs: Coefs, rows: _Rows) -> Coefs:
    """Return weights and biases of changed channels."""
    shape = coefs.weights.shape
    flat = rows.weights.T[None] if coefs.depthwise else rows.weights.reshape(shape)
    zero = np.broadcast_to(np.asarray(coefs.weight_zero, np.int16), rows.bias.shape)
    weights = flat + (zero if coefs.depthwise else zero[:, None, None])
    return dataclasses.replace(coefs, weights=weights.astype(np.uint8), bias=rows.bias)


def _finished(
    coefs: Coefs,
    factors: _Factors,
    error: Array,
    extent: Array,
    steps: Array,
    target: Target,
    where: str,
) -> Scaled:
    """Return the numbers with shifts that keep 32 bits, limits, and the output's converter."""
    shift, unit = _shift(coefs, factors, steps.max(), where)
    multiplier = output_multiplier(unit, where)
    error = error + 2 * unit + extent * abs(multiplier.real / unit - 1)
    worst = int(error.argmax())
    if error[worst] > MOST:
        raise LimitExceeded(
            f"output channel {worst} may be {error[worst]:.2f} steps off before rounding, must be"
            f" {MOST} at most (its scale is {steps[worst] / steps.max():.3g} of the largest)",
            where=where,
        )
    bn, zero = _limits(multiplier, unit, factors, target, where)
    compensation = np.broadcast_to(128 - np.asarray(coefs.weight_zero), steps.shape)
    channels = Channels(compensation, factors.factor, Stage(shift=shift), bn, factors.late)
    return Scaled(
        coefs, channels, Converter(zero - 128, multiplier.multiplier, multiplier.shift), error
    )


def _shift(coefs: Coefs, factors: _Factors, top: float, where: str) -> tuple[int, float]:
    """Return the shift of BS, and the steps of the output that one unit after it is worth."""
    axes = (0, 1) if coefs.depthwise else (1, 2)
    sums = np.abs(coefs.distances).sum(axis=axes, dtype=np.int64).max()
    before = 128 * int(sums) + 1 + int(np.abs(coefs.bias - coefs.correction()).max())
    if before >= _INT32:
        raise LimitExceeded(f"accumulator reaches {before}, must fit 32 bits", where=where)
    largest, shift = int(factors.factor.max()), _BITS
    while shift and top * 2.0 ** (shift - _BITS) > _UNIT and before * largest >> shift < _SAFE // 4:
        shift -= 1
    while before * largest >> shift > _SAFE:
        shift += 1
    return shift, top * 2.0 ** (shift - _BITS)


def _limits(
    multiplier: Multiplier, unit: float, factors: _Factors, target: Target, where: str
) -> tuple[Stage, int]:
    """Return BN for a clamp, and what 0 becomes: the zero point, or the lower limit."""
    low, high = target.clamp
    bn = OFF if factors.late is None else Stage(shift=factors.late_shift)
    if (low, high) == (0, 255):
        return bn, target.zero
    ceiling = None if high >= 255 else threshold_high(multiplier, high - low)
    if ceiling is not None and ceiling >= _INT32:
        ceiling = None  # 32 bits end before it
    bn = bn._replace(relu=True, ceiling=ceiling)
    if low != target.zero:
        add = round((target.zero - low) / unit) << factors.late_shift
        if not -_INT32 <= add < _INT32:
            raise LimitExceeded(
                f"lower limit is {add} in units of BN, must fit 32 bits", where=where
            )
        bn = bn._replace(add=add)
    return bn, low
