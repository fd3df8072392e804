# Ref: docs/hardware/rocket_vendor.md §0.7, §1 (tables)
"""Functions of one 8-bit value: a lookup table holds the result for each of the 256 values.

The numbers come from the operation's own arithmetic, so the NPU's results are the reference's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.errors import TeflonError
from teflon.ir.ops import (
    Elu,
    Exp,
    Gelu,
    HardSwish,
    Log,
    Logistic,
    Neg,
    Rsqrt,
    Sqrt,
    Square,
    Tanh,
)  # fmt: skip
from teflon.ir.ops import Table as Given
from teflon.ir.types import Array, DType
from teflon_rocket.chips import Chip
from teflon_rocket.exact.scales import signed_offset
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.passes import Size
from teflon_rocket.operations.stages import Source
from teflon_rocket.operations.table import Table

RULES = Family()

Tabulated = (
    Elu | Exp | Gelu | Given | HardSwish | Log | Logistic | Neg | Rsqrt | Sqrt | Square | Tanh
)


@RULES.requires
def defined(op: Tabulated, chip: Chip) -> str | None:
    """The function must be defined for these types and scales."""
    if not {op.input.type.dtype, op.output.type.dtype} <= {DType.INT8, DType.UINT8}:
        return None  # another rule says that
    try:
        table_of(op)
    except TeflonError as error:
        return str(error)
    return None


@RULES.lowers
def table(op: Tabulated, state: Lowering) -> Iterator[Operation]:
    """Load the table, then let the DPU replace each byte."""
    source, target = state.features[op.input], state.features[op.output]
    yield Table(op.where, Source(source), Source(target), Size(*source.shape), values=table_of(op))


def table_of(op: Tabulated) -> Array:
    """Return what the bytes -128 to 127 of the NPU's memory become, int8 [256].

    A uint8 value lies there less 128.
    """
    dtype = op.input.type.dtype.numpy
    stored = np.arange(-128, 128) - signed_offset(op.input.type) + 128
    (found,) = op.evaluate(stored.astype(dtype))
    return (found.astype(np.int16) + signed_offset(op.output.type) - 128).astype(np.int8)
