"""Whole numbers, rounded up to multiples or as C's `round()` does."""

from __future__ import annotations

import math


def cdiv(a: int, b: int) -> int:
    """Divide and round up."""
    return -(-a // b)


def align(value: int, step: int) -> int:
    """Round up to a multiple."""
    return cdiv(value, step) * step


def c_round(value: float) -> int:
    """Round to nearest, halves away from zero, as C's round()."""
    whole = math.floor(abs(value))
    rounded = whole + (abs(value) - whole >= 0.5)
    return rounded if value >= 0 else -rounded
