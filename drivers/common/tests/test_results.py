"""Arrays of results are reused when the caller has dropped them, and never before."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest

from teflon.ir.types import Array, DType, TensorType
from teflon_common.results import KEPT, Results

KIND = TensorType(DType.INT8, (4, 5))


def place(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def test_a_dropped_array_is_reused() -> None:
    results = Results(KIND)
    first = results.take()
    assert first.shape == (4, 5)
    assert first.dtype == np.int8
    assert first.flags.c_contiguous
    assert first.flags.writeable
    at = place(first)
    del first
    assert place(results.take()) == at


HOLDERS: dict[str, Any] = {
    "itself": lambda a: a,
    "a view": lambda a: a[1:],
    "a view of a view": lambda a: a.reshape(-1).view(np.uint8)[3:],
    "its base": lambda a: a.base,
    "a memoryview": memoryview,
    "a buffer of a view": lambda a: memoryview(a[2:]),
    "a reader of bytes": lambda a: np.frombuffer(memoryview(a).cast("B"), np.uint8),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_an_array_in_use_is_not_reused(name: str) -> None:
    results = Results(KIND)
    array = results.take()
    array[:] = 7
    at = place(array)
    holder = HOLDERS[name](array)
    del array
    others = [results.take() for _ in range(5)]
    assert at not in {place(other) for other in others}
    assert len({place(other) for other in others}) == 5
    del holder
    assert place(results.take()) == at


def test_only_a_few_arrays_are_kept() -> None:
    results = Results(KIND)
    held = [results.take() for _ in range(5)]
    places = {place(array) for array in held[:KEPT]}
    del held
    again = [results.take() for _ in range(KEPT)]
    assert {place(array) for array in again} == places


def test_without_the_gil_arrays_are_not_reused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("teflon_common.results._COUNTS_ARE_EXACT", False)
    results = Results(KIND)
    first = results.take()
    gone = weakref.ref(first.base)
    del first
    assert gone() is None
