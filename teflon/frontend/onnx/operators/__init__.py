"""The table of operators: for each operator of ONNX that is read one row.

Each module is a family, named as in `teflon.ir.ops`; their `ROWS` are the table.
"""

from __future__ import annotations

from typing import Final

from teflon.frontend.onnx.operators import (
    activation,
    convolution,
    elementwise,
    joining,
    pooling,
    reduction,
    resize,
    shaping,
    slicing,
)
from teflon.frontend.onnx.operators.row import Row

_FAMILIES = (
    activation, convolution, elementwise, joining, pooling, reduction, resize, shaping, slicing,
)  # fmt: skip

ROWS: Final[tuple[Row, ...]] = tuple(row for family in _FAMILIES for row in family.ROWS)
"""Every row."""

_BY_NAME = {(row.domain, row.kind): row for row in ROWS}


def row_of(domain: str, kind: str) -> Row | None:
    """Return the row of an operator; None where there is none."""
    return _BY_NAME.get((domain, kind))
