"""Arrays for results that come again with every inference.

A large new array costs more than filling it: the kernel has to find and clear its pages. So a few
are kept, and handed out again once nobody else holds them: who gets one cannot tell it from a new
array.
"""

from __future__ import annotations

import sys

import numpy as np

from teflon.ir.types import Array, TensorType

KEPT = 2
"""Arrays of a result that are kept: whoever has the last one may still read it."""


def _references(arrays: list[Array]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


_ALONE = _references([np.empty(0)])[0]
"""References to an array that only its list holds; interpreters count their own differently."""
_COUNTS_ARE_EXACT = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Without the interpreter's lock, a count that is read while others change it may be too low."""


class Results:
    """Arrays of one type. Not safe for use from several threads: the executable's lock guards."""

    def __init__(self, kind: TensorType) -> None:
        self._shape, self._dtype = kind.shape, kind.dtype.numpy
        self._kept: list[Array] = []

    def take(self) -> Array:
        """Return a C-contiguous array of any content that nobody else has or gets."""
        for number, references in enumerate(_references(self._kept)):
            if references == _ALONE:  # any view would hold another one
                return self._kept[number].view()
        new = np.empty(self._shape, self._dtype)
        if len(self._kept) < KEPT and _COUNTS_ARE_EXACT:
            self._kept.append(new)
        return new.view()
