"""Count what comparisons saw: cases, elements, mismatches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from teflon.ir.types import Array


@dataclass
class Count:
    """What was compared under one name."""

    cases: int = 0
    elements: int = 0
    mismatches: int = 0

    def __str__(self) -> str:
        return f"{self.cases:6} cases {self.elements:10} elements {self.mismatches:4} mismatches"


COUNTS: dict[str, Count] = {}
"""Name -> count; the summary at the end of a run prints it."""


def total(counts: Iterable[Count]) -> Count:
    """Return the sum of counts."""
    whole = Count()
    for count in counts:
        whole.cases += count.cases
        whole.elements += count.elements
        whole.mismatches += count.mismatches
    return whole


def compare(name: str, have: Array, want: Array) -> int:
    """Count one comparison under a name and return how many elements differ in any bit."""
    if not isinstance(have, np.ndarray) or have.shape != want.shape or have.dtype != want.dtype:
        raise TypeError(f"{name}: {have.dtype}{have.shape}, must be {want.dtype}{want.shape}")
    differ = int(np.count_nonzero(~((have == want) | ((have != have) & (want != want)))))
    count = COUNTS.setdefault(name, Count())
    count.cases += 1
    count.elements += want.size
    count.mismatches += differ
    return differ
