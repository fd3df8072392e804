"""What strategy exact takes, and how it is lowered: one file for each family of operations."""

from __future__ import annotations

from teflon_common.rules import Rules
from teflon_etnaviv.exact.rules import (
    convolutions,
    movement,
    pooling,
    products,
    resizing,
    sums,
    tables,
    tensors,
)

RULES = Rules(
    convolutions.RULES,
    pooling.RULES,
    sums.RULES,
    products.RULES,
    movement.RULES,
    resizing.RULES,
    tables.RULES,
)
for _limit in tensors.LIMITS:
    RULES.requires_first(_limit)
