# Ref: docs/hardware/rocket.md §3 (field widths), §5.1, §10.2
"""What strategy `exact` takes: rules for all operations, and those of each family.

A family has a file: its limits, one function each, and how it is lowered. Here it has a name in
`RULES`.
"""

from __future__ import annotations

from collections.abc import Iterator

from teflon.ir.graph import Op, Value
from teflon.ir.ops import Quantize, Table
from teflon.ir.types import Activation, DType
from teflon_rocket.chips import Chip
from teflon_rocket.exact.rules import (
    additions,
    convolutions,
    elementwise,
    movement,
    pooling,
    tables,
    unary,
)
from teflon_rocket.exact.state import Family

RULES = Family(
    convolutions.RULES,
    additions.RULES,
    elementwise.RULES,
    movement.RULES,
    pooling.RULES,
    tables.RULES,
    unary.RULES,
)

_EIGHT_BIT = (DType.UINT8, DType.INT8)
_CLAMPS = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def maps(op: Op) -> Iterator[Value]:
    """Yield the operands and results that are feature maps: not weights, bias, slopes, filler."""
    others = tuple(getattr(op, name, None) for name in ("weights", "bias", "alpha", "value"))
    yield from (v for v in op.inputs_present if v not in others)
    yield from op.results


@RULES.requires
def eight_bit(op: Op, chip: Chip) -> str | None:
    """Inputs and outputs must be uint8 or int8, and of one type but where values are converted."""
    types = [v.type.dtype for v in maps(op)]
    if set(types) <= set(_EIGHT_BIT) and (len(set(types)) == 1 or isinstance(op, Quantize | Table)):
        return None
    return "types are " + ", ".join(dtype.value for dtype in types)


@RULES.requires
def quantized(op: Op, chip: Chip) -> str | None:
    """Inputs and outputs must have one scale and one zero point each."""
    for value in maps(op):
        quantization = value.type.quantization
        if quantization is None and isinstance(op, Table):
            continue  # its entries say what the bytes mean
        if quantization is None or len(set(quantization.scales)) != 1:
            count = 0 if quantization is None else len(quantization.scales)
            return f"{value.name!r} has {count} scales"
        if not 0 < quantization.scale < float("inf"):
            return f"{value.name!r} has scale {quantization.scale}"
    return None


@RULES.requires
def computed(op: Op, chip: Chip) -> str | None:
    """An input must be computed, not constant."""
    inputs = [v for v in maps(op) if v not in op.results]
    return f"{inputs[0].name!r} is constant" if all(v.is_constant for v in inputs) else None


@RULES.requires
def activation(op: Op, chip: Chip) -> str | None:
    """A fused activation must be RELU, RELU6 or RELU_N1_TO_1."""
    fused: Activation = getattr(op, "activation", Activation.NONE)
    return None if fused in _CLAMPS else f"activation is {fused.value.upper()}"


@RULES.requires
def channels(op: Op, chip: Chip) -> str | None:
    """Feature maps must have at most {max_channels} channels."""
    most = max(v.shape[-1] if v.shape else 1 for v in maps(op))
    return None if most <= chip.max_channels else f"{most} channels"
