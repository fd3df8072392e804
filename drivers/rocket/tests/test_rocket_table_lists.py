# Ref: docs/hardware/rocket_vendor.md §1 (LUT load, LUT registers)
"""Tables of the DPU: what is in them, and the words of the vendor's compiler around them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from teflon_rocket.operations.passes import Size
from teflon_rocket.operations.stages import Source
from teflon_rocket.operations.table import ENTRIES, Table, entries
from tests.paths import needs_shared
from tests.rocket.words import feature, ours, vendors

BYTES = np.arange(-128, 128)
LUT_DATA = 0x4104


@given(arrays(np.int8, 256, elements=st.integers(-128, 127)))
def test_every_byte_meets_an_entry(values: np.ndarray) -> None:
    le, lo = entries(values)
    assert le.shape == lo.shape == (ENTRIES,)
    reached = 128 * BYTES
    below, above = reached < 0, reached >= 0
    np.testing.assert_array_equal(le[(reached[below] + 16384) // 32], values[below])
    np.testing.assert_array_equal(lo[reached[above] // 32], values[above])
    assert le[-1] == lo[0]


def _table() -> Table:
    values = np.arange(-128, 128).astype(np.int8)
    source, target = (Source(feature(12, 12, 16)) for _ in range(2))
    return Table("silu", source, target, Size(1, 12, 12, 16), values=values)


@needs_shared
def test_loading_is_the_vendors_but_for_the_numbers() -> None:
    mine, theirs = ours(_table(), 0), vendors("silu_only", 0)
    assert [w[:2] for w in mine] == [w[:2] for w in theirs]
    different = {w[1] for w, v in zip(mine, theirs, strict=True) if w != v}
    assert different == {LUT_DATA}


@needs_shared
def test_signs_of_entries_are_written_as_the_vendors() -> None:
    """In all 32 bits of the word."""
    for words in (ours(_table(), 0), vendors("silu_only", 0)):
        tops = {w[2] >> 15 for w in words if w[1] == LUT_DATA}
        assert tops == {0, 0x1FFFF}


@needs_shared
def test_using_is_the_vendors_but_for_the_numbers() -> None:
    mine, theirs = ours(_table(), 1), vendors("silu_only", 1)
    assert [w[:2] for w in mine] == [w[:2] for w in theirs]
    different = {w[1]: (w[2], v[2]) for w, v in zip(mine, theirs, strict=True) if w != v}
    assert set(different) == {
        0x4064, 0x4068,  # BN: a byte times 128 instead of the function's own range
        0x4080, 0x4084, 0x4088,  # the table holds results
        0x4128, 0x412C,  # no byte is beyond the table
    }  # fmt: skip


@pytest.mark.parametrize("images", [1, 3])
def test_each_image_loads_the_table(images: int) -> None:
    values = np.zeros(256, np.int8)
    table = Table(
        "t", Source(feature(2, 2, 16, images)), Source(feature(2, 2, 16, images)),
        Size(images, 2, 2, 16), values=values,
    )  # fmt: skip
    assert table.tasks == 2 * images
    loads = [sum(w[1] == LUT_DATA for w in ours(table, n)) for n in range(table.tasks)]
    assert loads == [1 + 2 * ENTRIES, 1] * images
