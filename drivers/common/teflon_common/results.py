"""Reusing the arrays of results, which each inference needs again.

Allocating a large array costs more than filling it, because the kernel must find and clear its
pages. So a few arrays are kept and used again when the caller has dropped them. For the caller this
is the same as a new array.
"""

from __future__ import annotations

import sys

import numpy as np

from teflon.ir.types import Array, TensorType

KEPT = 2
"""Arrays that are kept for a result, so that the caller may read one while another is filled."""


def _references(arrays: list[Array]) -> list[int]:
    return [sys.getrefcount(array) for array in arrays]


_ALONE = _references([np.empty(0)])[0]
"""The reference count of an array that only its list holds; it depends on the interpreter."""
_COUNTS_ARE_EXACT = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Without the GIL another thread may change a count while it is read, so it may be too low. Then
arrays are not reused.
"""


class Results:
    """Reusable arrays of one type. Callers must hold a lock; the executable's lock is one."""

    def __init__(self, kind: TensorType) -> None:
        self._shape, self._dtype = kind.shape, kind.dtype.numpy
        self._kept: list[Array] = []

    def take(self) -> Array:
        """Return a C-contiguous array that nothing else uses; its content is undefined."""
        for number, references in enumerate(_references(self._kept)):
            if references == _ALONE:  # every view of it would add a reference
                return self._kept[number].view()
        new = np.empty(self._shape, self._dtype)
        if len(self._kept) < KEPT and _COUNTS_ARE_EXACT:
            self._kept.append(new)
        return new.view()
