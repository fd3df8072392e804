"""Functions of one byte, looked up in tables by the TP cores; the results are the reference's."""

# Ref: docs/hardware/etnaviv.md section 5.5

from __future__ import annotations

import math

from teflon.ir.graph import Op
from teflon.ir.ops import (
    Abs,
    Div,
    Elu,
    Exp,
    Gelu,
    HardSwish,
    LeakyRelu,
    Log,
    Logistic,
    Maximum,
    Minimum,
    Neg,
    Prelu,
    Quantize,
    Relu,
    Relu0To1,
    Relu6,
    ReluN1To1,
    Rsqrt,
    Sqrt,
    Square,
    SquaredDifference,
    Table,
    Tanh,
)
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import functions
from teflon_etnaviv.exact.layers.sums import sum_shape
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules.tensors import uncountable
from teflon_etnaviv.tensors import Tensor
from teflon_etnaviv.tp.curves import curves

RULES = Rules[Chip, Lower]()


def several_tables(op: Op, chip: Chip) -> str | None:
    """Say why the tables of an operation that needs several cannot be added."""
    count = math.prod(op.results[0].shape)
    if sum_shape(count, chip) is not None or functions.why_not(op) is not None:
        return None
    found = curves(functions.function(op), Tensor.of(op.results[0]).zero_point)
    return None if len(found) == 1 else f"{count} elements"


WithConstant = Div | Maximum | Minimum | Prelu | SquaredDifference
Tabulated = (
    Abs | Div | Elu | Exp | Gelu | HardSwish | LeakyRelu | Log | Logistic | Maximum | Minimum | Neg
    | Prelu | Quantize | Relu | Relu0To1 | Relu6 | ReluN1To1 | Rsqrt | Sqrt | Square
    | SquaredDifference | Table | Tanh
)  # fmt: skip


@RULES.requires_first
def one_operand(op: WithConstant, chip: Chip) -> str | None:
    """One operand must be a constant of one number, or both must be the same tensor."""
    if functions.operand(op) is not None:
        return None
    shapes = " and ".join(str(list(value.shape)) for value in op.inputs_present)
    return f"operands are {shapes}"


@RULES.requires
def defined(op: Tabulated, chip: Chip) -> str | None:
    """The function must be defined for these types and scales."""
    return functions.why_not(op)


@RULES.requires
def countable(op: Tabulated, chip: Chip) -> str | None:
    """Rows, columns and channels of tensors must be at most {tp_image_max}: TP cores count them."""
    return uncountable(op.results, chip)


@RULES.requires
def foldable(op: Tabulated, chip: Chip) -> str | None:
    """The elements of a function that needs several tables must fold into images that the NN cores
    can count.
    """
    return several_tables(op, chip)


@RULES.lowers
def table(op: Tabulated, state: Lowering) -> None:
    """Look up in the layout in which the operand is: each byte is mapped alone."""
    state.tabulate(op)
