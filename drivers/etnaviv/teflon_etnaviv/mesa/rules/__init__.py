"""What Mesa 26.2.6 takes, and how it lowers it: one file for each family of operations."""

from __future__ import annotations

from teflon_common.rules import Rules
from teflon_etnaviv.mesa.rules import convolutions, movement, sums, tables

RULES = Rules(
    convolutions.RULES, sums.RULES, movement.RULES, tables.RULES,
    refusal="Mesa's driver does not run {}",
)  # fmt: skip
