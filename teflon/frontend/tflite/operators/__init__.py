"""The table of operators: for each class of the IR one row that reads and writes it.

Each module below is a family, named as in `teflon.ir.ops`; their `ROWS` are the table.
"""

from __future__ import annotations

from typing import Final

from teflon.frontend.tflite.operators import (
    activation,
    blocks,
    convolution,
    detection,
    elementwise,
    functions,
    joining,
    matmul,
    pooling,
    quantize,
    recurrent,
    reduction,
    resize,
    shaping,
    slicing,
)
from teflon.frontend.tflite.operators.row import Row
from teflon.ir import Op

_FAMILIES = (
    activation, blocks, convolution, detection, elementwise, functions, joining, matmul, pooling,
    quantize, recurrent, reduction, resize, shaping, slicing,
)  # fmt: skip

ROWS: Final[tuple[Row, ...]] = tuple(row for family in _FAMILIES for row in family.ROWS)
"""Every row."""

_BY_NAME = {(name, row.is_custom): row for row in ROWS for name in (row.name, *row.also)}
_BY_KIND = {row.kind: row for row in ROWS}


def row_of(name: str, is_custom: bool) -> Row | None:
    """Return the row of a file's operator; None where the IR has none for it."""
    return _BY_NAME.get((name, is_custom))


def row_for(kind: type[Op]) -> Row | None:
    """Return the row of an operation's class; None where the format has none for it."""
    return _BY_KIND.get(kind)
