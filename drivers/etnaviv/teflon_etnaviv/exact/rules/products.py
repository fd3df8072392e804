"""Products: a table for one tensor, a convolution for constants of channels, squares for two."""

# Ref: docs/hardware/etnaviv.md sections 3.1 (field widths), 4.9 and 5.5

from __future__ import annotations

from teflon.ir.ops import Mul
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.layers import products as layers
from teflon_etnaviv.exact.layers.sums import sum_shape
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules import pairs
from teflon_etnaviv.exact.rules.tensors import uncountable
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.tensors import Tensor

RULES = Rules[Chip, Lower]()


@RULES.requires_first
def shapes(op: Mul, chip: Chip) -> str | None:
    """Factors must have the result's shape, lack its first axes or have one channel, with at most
    {tp_image_max} elements and repeated as often at most; or one is a constant, which may lack its
    first axes.
    """
    return pairs.shapes(op, chip)


@RULES.requires
def foldable(op: Mul, chip: Chip) -> str | None:
    """The elements of a product must fold into images that the cores can count."""
    return pairs.foldable(op, chip)


@RULES.requires
def countable(op: Mul, chip: Chip) -> str | None:
    """Rows, columns and channels of tensors must be at most {tp_image_max}: TP cores count them."""
    return uncountable([op.output], chip)


@RULES.requires
def with_channels(op: Mul, chip: Chip) -> str | None:
    """What multiplies each channel by a constant must be a convolution that the cores run."""
    return pairs.with_channels(op, chip)


@RULES.lowers
def product(op: Mul, state: Lowering) -> None:
    """Of two tensors: digits, sums of digits, their squares, and what these add up to."""
    pairs.lower(op, state, _multiplied)


def _multiplied(op: Mul, state: Lowering) -> None:
    *factors, layout = state.operands(op)
    size = factors[0].size_bytes
    # Digits, bytes and squares lie one behind the other: each layer reads what it needs in one go.
    whole = factors[0].like(f"{op.where} (factors)", (1, 1, 1, (4 + layers.TERMS) * size))
    digits = tuple(state.mapped(op.where, factor, layers.digits()) for factor in factors)
    for number, digit in enumerate(digits):
        state.places[digit] = whole, number * size
    a, b = (
        state.live_inside(factor, whole, number * size)
        for number, factor in enumerate(factors, len(digits))
    )
    planes, rows, columns = layers.terms(size, state.chip).out_channels, *_pixels(size, state.chip)
    sums = Tensor(f"{op.where} (digits)", (1, planes, rows, columns), a.scale, 128, False)
    squared = sums.like(f"{op.where} (squares)")
    state.places[squared] = whole, 4 * size
    state.add(NN(op.where, (*digits, a, b), (sums,), layers.terms(size, state.chip), CODING))
    state.look_up(op.where, sums, squared, layers.squares())
    target = state.define(op.output, layout)
    written = state.unclamped(op, target)
    layer = layers.product(op, state.chip)
    state.add(NN(op.where, (a, b, squared), (written,), layer, CODING))
    state.clamp(op, written, target)


def _pixels(size: int, chip: Chip) -> tuple[int, int]:
    shape = sum_shape(size, chip)
    assert shape is not None, "a rule asks for it"
    return shape[1:]
