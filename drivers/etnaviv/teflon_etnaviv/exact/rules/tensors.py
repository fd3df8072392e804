"""Limits on the tensors of every operation, and what several families ask of theirs."""

# Ref: docs/hardware/etnaviv.md sections 3 (field widths) and 10.3

from __future__ import annotations

import math
from collections.abc import Iterable

from teflon.ir.graph import Op, Value
from teflon.ir.ops import (
    Add,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    Mean,
    Mul,
    Sub,
    TransposeConv,
)
from teflon.ir.types import DType
from teflon_common.boxes import Reshaping
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.copies import Copying

BYTES = (DType.INT8, DType.UINT8)


def tensors(op: Op) -> list[Value]:
    """Return every operand and result but weights, biases, fill values and constant operands of
    operations of two.
    """
    others = {id(getattr(op, name, None)) for name in ("weights", "bias", "value", "alpha")}
    pair = [v for v in (getattr(op, "a", None), getattr(op, "b", None)) if v is not None]
    if not all(v.is_constant for v in pair):
        others |= {id(v) for v in pair if v.is_constant}
    return [v for v in (*op.inputs_present, *op.results) if id(v) not in others]


def computed(op: Op, chip: Chip) -> str | None:
    """Inputs must be computed, not constant."""
    found = next((v for v in tensors(op) if v.is_constant), None)
    return f"{found.name!r} is constant" if found else None


def eight_bit(op: Op, chip: Chip) -> str | None:
    """Inputs and outputs must be uint8 or int8."""
    found = next((v for v in tensors(op) if v.type.dtype not in BYTES), None)
    return f"{found.name!r} is {found.type.dtype.value}" if found else None


def one_image(op: Op, chip: Chip) -> str | None:
    """Tensors must hold one image, but those of FULLY_CONNECTED and of operations that only move
    elements, and those of convolutions, poolings, sums, tables and PAD, which are repeated for each
    image of a batch.
    """
    if isinstance(op, Copying | Reshaping | FullyConnected):
        return None
    found = next((v for v in tensors(op) if math.prod(v.shape[:-3]) != 1), None)
    return f"{found.name!r} has a batch of {found.shape[:-3]}" if found else None


def one_scale(op: Op, chip: Chip) -> str | None:
    """Every tensor but weights and biases must have one scale."""
    for value in tensors(op):
        scales = value.type.quantization.scales if value.type.quantization else ()
        if len(set(scales)) > 1:
            return f"{value.name!r} has {len(set(scales))}"
    return None


SCALE_LEAST, SCALE_MOST = 2.0**-40, 2.0**14
"""Steps of the output for one of what is added up: a little less than the shifts of all chips."""
SUM_MOST = 2.0**20
"""The same for sums, where the larger operand's weight is at least 64 times a step."""

Scaled = Add | Sub | Mul | Mean | Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv


def expressible_scale(op: Op, chip: Chip) -> str | None:
    """The scale of inputs, times that of weights or of the other factor, must be 2^-40 to 2^14
    times the output's in products, means and convolutions; in sums the larger operand's must be
    2^-40 to 2^20 times.
    """
    if not isinstance(op, Scaled) or eight_bit(op, chip) or one_scale(op, chip):
        return None
    out = op.output.type.scale
    most = SUM_MOST if isinstance(op, Add | Sub) else SCALE_MOST
    found = [scale / out for scale in _scales(op)]
    wrong = next((scale for scale in found if not SCALE_LEAST <= scale <= most), None)
    return None if wrong is None else f"{wrong:g} times"


def _scales(op: Scaled) -> list[float]:
    """Return the scales of what an operation adds up: of a sum the larger one."""
    if isinstance(op, Add | Sub):
        return [max(op.a.type.scale, op.b.type.scale)]
    if isinstance(op, Mul):
        return [op.a.type.scale * op.b.type.scale]
    if isinstance(op, Mean):
        return [op.input.type.scale]
    kind = op.weights.type.quantization
    scales = kind.scales if kind else (1.0,)
    return [op.input.type.scale * scale for scale in (min(scales), max(scales))]


LIMITS = (computed, eight_bit, one_image, one_scale, expressible_scale)
"""Limits for the operations of all families; all other rules rely on them."""


def too_wide(values: Iterable[Value], chip: Chip) -> str | None:
    """Name a tensor whose rows or columns the layout jobs of the TP cores cannot count."""
    found = next((v for v in values if _is_too_wide(v, chip.tp_image_max)), None)
    return f"{found.name!r} is {list(found.shape)}" if found else None


def _is_too_wide(value: Value, most: int) -> bool:
    _, height, width, channels = (1, 1, 1, 1, *value.shape)[-4:]
    if height * width == 1 or channels == 1:
        return max(height, width) > most
    return width * channels > most or height > most


def uncountable(values: Iterable[Value], chip: Chip) -> str | None:
    """Name a tensor with more rows, columns or channels than the TP cores can count."""
    found = next((v for v in values if max(v.shape[-3:], default=1) > chip.tp_image_max), None)
    return f"{found.name!r} is {list(found.shape)}" if found else None
