# Ref: docs/hardware/rocket_vendor.md §0.10, §2 (elementwise)
"""Two tensors, element by element: limits and lowering. A pass of the DPU alone computes it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from teflon.ir.graph import Value
from teflon.ir.ops import Add, Maximum, Minimum, Mul, SquaredDifference, Sub
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.layers import clamp_of
from teflon_rocket.exact.operands import goes_with, operand
from teflon_rocket.exact.pairs import Combined, largest, product, smallest, total
from teflon_rocket.exact.pieces import Piece, pieces
from teflon_rocket.exact.rescale import rescaled, rescaling
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.passes import Pass
from teflon_rocket.operations.stages import Other, Pixels, Source

RULES = Family()

_MOST_MOVED = 1.0001
"""Steps by which a squared difference moves at its largest value, which is limited to a byte."""

Paired = Add | Sub | Mul | Maximum | Minimum


@RULES.requires
def one_whole(op: Paired | SquaredDifference, chip: Chip) -> str | None:
    """A computed operand must have the result's shape, but for channels; the other must have it
    too, or be constant, or have 1 image, 1 pixel or 1 channel.
    """
    shape = image_shape(op.output.shape)
    if _pair(op) is not None and all(goes_with(v, shape) for v in (op.a, op.b)):
        return None
    return f"shapes are {list(op.a.shape)} and {list(op.b.shape)}"


@RULES.requires
def fine_square(op: SquaredDifference, chip: Chip) -> str | None:
    """A squared difference must have operands of one scale, or a result of so coarse a scale that
    rounding the difference to a byte moves it by less than a step.
    """
    scales, result = (op.a.type.scale, op.b.type.scale), op.output.type.scale
    if min(*scales, result) <= 0:
        return None  # another rule says that
    step = _difference(op)
    own = 255 * step.scale**2 / result
    # The reference rounds both operands to a 64th of the larger scale, but for equal ones.
    reference = 0 if scales[0] == scales[1] else 2 * 255 * step.scale * max(scales) / 64 / result
    if own + reference <= _MOST_MOVED:
        return None
    return f"scales are {scales[0]:g} and {scales[1]:g}, it moves by {own + reference:.2f} steps"


def _pair(op: Paired | SquaredDifference) -> tuple[Value, Value] | None:
    """Return the operand that the pass reads as its main one, and the other."""
    for main, other in ((op.a, op.b), (op.b, op.a)):
        if not main.is_constant and image_shape(main.shape) == image_shape(op.output.shape):
            return main, other
    return None


@RULES.lowers
def paired(op: Sub | Mul | Maximum | Minimum, state: Lowering) -> Iterator[Operation]:
    """One pass of the DPU; a convolution before it where channels are repeated, another pass after
    it where EW cannot apply both limits.
    """
    yield from pair(op, state)


def pair(op: Paired, state: Lowering) -> Iterator[Operation]:
    """Yield the passes of an operation with two operands."""
    main, other = _operands(op)
    target = state.features[op.output]
    second = operand(other, target.shape, state, op.where)
    yield from second.before
    numbers, first = _numbers(op, main, other), state.features[main]
    if numbers.late is None:
        yield from _passes(op.where, first, second.source, target, numbers, state.chip)
        return
    made = Feature.between(f"{op.where}/unlimited", target.shape, target.flip)
    yield from _passes(op.where, first, second.source, made, numbers, state.chip)
    affine = Affine.of(op.output.type)
    limits = rescaling(op.where, affine, affine, numbers.late)
    yield from rescaled(op.where, made, target, limits, state.chip)


@RULES.lowers
def squared(op: SquaredDifference, state: Lowering) -> Iterator[Operation]:
    """Four passes of the DPU: what a exceeds b by, what b exceeds a by, the larger one, its square.

    All of them limit to a byte; so the difference has a step that fits it.
    """
    main, other = _operands(op)
    target, chip = state.features[op.output], state.chip
    second = operand(other, target.shape, state, op.where)
    yield from second.before
    affines = Affine.of(main.type), Affine.of(other.type)
    step, result = _difference(op), Affine.of(op.output.type)
    made = [
        Feature.between(f"{op.where}/{n}", target.shape) for n in ("above", "below", "distance")
    ]
    for between, signs in zip(made, ((1, -1), (-1, 1)), strict=False):
        numbers = total(op.where, *affines, step, signs=signs)
        first = state.features[main]
        yield from _passes(op.where, first, second.source, between, numbers, chip)
    above, below, distance = made
    yield from _passes(op.where, above, Source(below), distance, largest(), chip)
    numbers = product(op.where, step, step, result)
    yield from _passes(op.where, distance, Source(distance), target, numbers, chip)


def _difference(op: SquaredDifference) -> Affine:
    """Return the quantisation of |a - b|: as fine as a byte allows that need not hold more than
    what the largest result is the square of.
    """
    a, b, result = (Affine.of(v.type) for v in (op.a, op.b, op.output))
    above, below = (255 - a.zero) * a.scale + b.zero * b.scale, a.zero * a.scale
    reach = max(above, below + (255 - b.zero) * b.scale)
    needed = math.sqrt(max(255 - result.zero, 1) * result.scale)
    return Affine(min(reach, needed) / 255, 0)


def _operands(op: Paired | SquaredDifference) -> tuple[Value, Value]:
    found = _pair(op)
    assert found is not None  # a rule
    return found


def _passes(
    where: str, first: Feature, second: Source | Pixels | Constant, target: Feature,
    numbers: Combined, chip: Chip,
) -> Iterator[Pass]:  # fmt: skip
    """Yield the passes from two whole maps to another one."""
    for piece in pieces(target.shape, chip):
        yield Pass(
            where,
            piece.of(Source(first)),
            piece.of(Source(target)),
            piece.size,
            numbers.bs,
            numbers.bn,
            Other(numbers.kind, _part(second, piece), *numbers.operand, numbers.relu),
            numbers.output,
        )


def _part(source: Source | Pixels | Constant, piece: Piece) -> Source | Pixels | Constant:
    if isinstance(source, Pixels):
        return piece.of_pixels(source)
    return piece.of(source) if isinstance(source, Source) else source


def _numbers(op: Paired, main: Value, other: Value) -> Combined:
    if isinstance(op, Maximum):
        return largest()
    if isinstance(op, Minimum):
        return smallest()
    first, second, result = (Affine.of(v.type) for v in (main, other, op.output))
    if isinstance(op, Mul):
        return product(op.where, first, second, result, clamp_of(op))
    signs = (1, 1)
    if isinstance(op, Sub):
        signs = (1, -1) if main is op.a else (-1, 1)
    return total(op.where, first, second, result, clamp_of(op), signs)
