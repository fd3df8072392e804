# Ref: docs/hardware/rocket_vendor.md §0.10, §2 (elementwise)
"""Two tensors, element by element: limits and lowering. A pass of the DPU alone computes it."""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.graph import Value
from teflon.ir.ops import Add, Maximum, Minimum, Mul, Sub
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
from teflon_rocket.operations.data import Constant, Feature, whole_pitch
from teflon_rocket.operations.passes import Pass
from teflon_rocket.operations.stages import Other, Pixels, Source

RULES = Family()

Paired = Add | Sub | Mul | Maximum | Minimum


@RULES.requires
def one_whole(op: Paired, chip: Chip) -> str | None:
    """A computed operand must have the result's shape, but for channels; the other must have it
    too, or be constant, or have 1 image, 1 pixel or 1 channel.
    """
    shape = image_shape(op.output.shape)
    if _pair(op) is not None and all(goes_with(v, shape) for v in (op.a, op.b)):
        return None
    return f"shapes are {list(op.a.shape)} and {list(op.b.shape)}"


def _pair(op: Paired) -> tuple[Value, Value] | None:
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
    found = _pair(op)
    assert found is not None  # a rule
    main, other = found
    target = state.features[op.output]
    second = operand(other, target.shape, state, op.where)
    yield from second.before
    numbers = _numbers(op, main, other)
    made = target
    if numbers.late is not None:
        pitch = whole_pitch(*target.shape[1:3])
        made = Feature(f"{op.where}/unlimited", target.shape, flip=target.flip, pitch=pitch)
    for piece in pieces(target.shape, state.chip):
        yield Pass(
            op.where,
            piece.of(Source(state.features[main])),
            piece.of(Source(made)),
            piece.size,
            numbers.bs,
            numbers.bn,
            Other(numbers.kind, _part(second.source, piece), *numbers.operand, numbers.relu),
            numbers.output,
        )
    if numbers.late is not None:
        affine = Affine.of(op.output.type)
        limits = rescaling(op.where, affine, affine, numbers.late)
        yield from rescaled(op.where, made, target, limits, state.chip)


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
