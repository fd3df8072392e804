# Ref: docs/hardware/rocket_vendor.md §0.10, §2 (elementwise, numeric checks of EW)
"""Two tensors through a pass of the DPU: sums, products and choices as register values.

All zero points and limits are in uint8's domain. Errors are in steps of the output, before it is
rounded to whole ones: none exceeds 0.6, so a result is within one step of the exact one's.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from teflon.errors import LimitExceeded
from teflon_common.quantize import Multiplier
from teflon_rocket.exact.rescale import ALL
from teflon_rocket.exact.scales import MOST_SHIFT, SCALE_BITS, Affine, output_multiplier
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.stages import OFF, Kind, Stage

Range = tuple[int, int]

_MOST_RATIO = 2**13
"""Largest scale of an operand over that of a sum: an operand is rounded to 2^-14 steps of the
coarser one, which is a quarter of a step of the sum then."""
_ORIGIN = 2**29
"""Least magnitude of an origin that is left to another pass."""


class Combined(NamedTuple):
    """The numbers of a pass: stages, EW's converter, ReLU and output.

    late: limits that another pass has to apply; the scale and the zero point are the output's.
    """

    kind: Kind
    bs: Stage
    bn: Stage
    operand: Converter
    output: Converter
    relu: bool = False
    late: Range | None = None


class _Terms(NamedTuple):
    """Factors for two operands, and the larger scale over the unit of their products."""

    first: Multiplier
    second: Multiplier
    fraction: int


def total(
    where: str, first: Affine, second: Affine, result: Affine, clamp: Range = ALL,
    signs: tuple[int, int] = (1, 1),
) -> Combined:  # fmt: skip
    """Return the numbers of signs[0] * first + signs[1] * second.

    Raises LimitExceeded where the sum's scale is too small for its operands.
    """
    larger = max(first.scale, second.scale)
    if not larger <= _MOST_RATIO * result.scale:
        raise LimitExceeded(
            f"operand scale is {larger:g}, must be at most {_MOST_RATIO} times the result's"
            f" {result.scale:g}",
            where=where,
        )
    terms = _terms(first.scale, second.scale)
    factor = output_multiplier(larger / result.scale / terms.fraction, where)
    clamped = _clamped(factor, result.zero, clamp)
    one, other = (clamped.direction * sign for sign in signs)
    bs = Stage(add=128 - first.zero, factor=one * terms.first.multiplier, shift=terms.first.shift)
    operand = Converter(128 - second.zero, other * terms.second.multiplier, terms.second.shift)
    bn = Stage(add=clamped.add) if clamped.add else OFF
    scale = clamped.direction * factor.multiplier
    output = Converter(clamped.offset - 128, scale, factor.shift)
    return Combined(Kind.ADD, bs, bn, operand, output, clamped.relu, clamped.late)


def product(
    where: str, first: Affine, second: Affine, result: Affine, clamp: Range = ALL
) -> Combined:
    """Return the numbers of first * second. Raises LimitExceeded where the factor is too large."""
    factor = output_multiplier(first.scale * second.scale / result.scale, where)
    relu = clamp[0] == result.zero
    exact = clamp == ALL or (relu and clamp[1] == ALL[1])
    return Combined(
        Kind.MULTIPLY,
        Stage(add=128 - first.zero),
        OFF,
        Converter(128 - second.zero, 1, 0),
        Converter(result.zero - 128, factor.multiplier, factor.shift),
        relu and clamp != ALL,
        None if exact else clamp,
    )


def largest() -> Combined:
    """Return the numbers of the larger of two bytes."""
    return Combined(Kind.MAXIMUM, OFF, OFF, Converter(0, 1, 0), Converter(0, 1, 0))


def smallest() -> Combined:
    """Return the numbers of the smaller of two bytes, as the negative of the larger negative."""
    negated = Stage(factor=-1)
    return Combined(Kind.MAXIMUM, negated, OFF, Converter(0, -1, 0), Converter(0, -1, 0))


def _terms(first: float, second: float) -> _Terms:
    """Return factors in proportion to two scales, of 15 bits; the larger is not shifted.

    Both are chosen together, so that their proportion is right to 2^-29: with one of them given it
    would be right to 2^-15 only, and a sum is small where large operands nearly cancel.
    """
    swap = second > first
    large, small = (second, first) if swap else (first, second)
    ratio = Fraction(small) / Fraction(large)
    shift = min(max(_exponent(ratio), 0), MOST_SHIFT)
    near = (ratio * 2**shift).limit_denominator(2**SCALE_BITS - 1)
    double = 0
    while near.denominator << double + 1 < 1 << SCALE_BITS:
        double += 1
    fraction = near.denominator << double
    scaled = Multiplier(max(near.numerator << double, 1), shift)
    whole = Multiplier(fraction, 0)
    return _Terms(scaled, whole, fraction) if swap else _Terms(whole, scaled, fraction)


def _exponent(ratio: Fraction) -> int:
    """Return the largest n for which ratio * 2^n is at most 1; ratio is at most 1."""
    n = ratio.denominator.bit_length() - ratio.numerator.bit_length() + 1
    while ratio * 2**n > 1:
        n -= 1
    return n


class _Clamped(NamedTuple):
    """How EW's ReLU serves a limit: what is added before it, and what 0 becomes in the end.

    direction: -1 where the negative of the sum is computed, so that ReLU is an upper limit.
    """

    direction: int = 1
    add: int = 0
    offset: int = 0
    relu: bool = False
    late: Range | None = None


def _clamped(factor: Multiplier, zero: int, clamp: Range) -> _Clamped:
    """Return how limits are applied. EW has one, the output's saturation the other where it is a
    byte's; what remains is left to another pass.
    """
    low, high = clamp
    if clamp == ALL:
        return _Clamped(offset=zero)
    limit, direction = (low, 1) if low > ALL[0] else (high, -1)
    add = round((zero - limit) * direction / factor.real)
    if abs(add) >= _ORIGIN:
        return _Clamped(offset=zero, late=clamp)
    late = None if low == ALL[0] or high == ALL[1] else clamp
    return _Clamped(direction, add, limit, True, late)
