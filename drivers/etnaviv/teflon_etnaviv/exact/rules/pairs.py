"""What sums and products of two tensors have in common: limits, and who computes them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from teflon.ir.ops import Add, Mul, Sub
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import channels, functions, repeats
from teflon_etnaviv.exact.layers.sums import sum_shape
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.rules import weighted
from teflon_etnaviv.exact.rules.tables import several_tables

Pair = Add | Mul | Sub


def shapes(op: Pair, chip: Chip) -> str | None:
    """Say why two operands cannot be brought to the result's shape."""
    if functions.operand(op) is not None or channels.pair(op) is not None:
        return None
    return repeats.why_not(op.a, op.b, op.output.shape, chip.tp_image_max)


def foldable(op: Pair, chip: Chip) -> str | None:
    """Say why the elements do not fold into images that the cores can count."""
    if functions.operand(op) is not None:
        return several_tables(op, chip)
    if channels.pair(op) is not None:
        return None
    count = math.prod(op.output.shape)
    return None if sum_shape(count, chip) is not None else f"{count} elements"


def with_channels(op: Pair, chip: Chip) -> str | None:
    """Say why a constant for each channel is no convolution that the cores run."""
    if functions.operand(op) is not None or channels.pair(op) is None:
        return None
    return weighted.why_not(op, chip)


def lower(op: Any, state: Lowering, two: Callable[[Any, Lowering], None]) -> None:
    """Use a table for one tensor, a convolution for constants of channels, and `two` for two."""
    if functions.operand(op) is not None:
        state.tabulate(op)
    elif channels.pair(op) is not None:
        weighted.lower(op, state)
    else:
        two(op, state)
