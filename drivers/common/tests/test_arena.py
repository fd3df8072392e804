"""The placement of buffers: buffers of the same step do not overlap, the peak has its bounds."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from teflon_common.arena import Arena, Lifetime, Pool, lower_bound, place, row

LIFETIMES = st.builds(
    lambda size, first, length: Lifetime(size, first, first + length),
    st.integers(0, 5000), st.integers(-1, 12), st.integers(0, 8),
)  # fmt: skip


@given(st.lists(LIFETIMES, max_size=24), st.sampled_from([1, 16, 64, 4096]))
def test_no_live_buffers_overlap(buffers: list[Lifetime], alignment: int) -> None:
    found = place(buffers, alignment)
    spans = [(o, o + b.size, b) for o, b in zip(found.offsets, buffers, strict=True)]
    assert all(offset % alignment == 0 for offset in found.offsets)
    for (a, a_end, one), (b, b_end, other) in combinations(spans, 2):
        if one.meets(other) and one.size and other.size:
            assert a_end <= b or b_end <= a
    assert max((end for _, end, _ in spans), default=0) <= found.peak


@given(st.lists(LIFETIMES, max_size=24))
def test_the_peak_is_between_its_bounds(buffers: list[Lifetime]) -> None:
    total = sum(-(-b.size // 64) * 64 for b in buffers)
    assert lower_bound(buffers) <= place(buffers).peak <= total


def chain(sizes: list[int]) -> list[Lifetime]:
    """Return buffers of which each step reads the one of the step before."""
    return [Lifetime(size, step, step + 1) for step, size in enumerate(sizes)]


@given(st.lists(st.integers(1, 9000), min_size=2, max_size=30))
@example([1, 65, 65, 1, 65])  # 320 bytes, where 256 would be enough
def test_a_chain_takes_less_than_three_of_its_largest(sizes: list[int]) -> None:
    assert place(chain(sizes)).peak < 3 * -(-max(sizes) // 64) * 64


@given(st.integers(1, 9000), st.integers(2, 30))
def test_a_chain_of_equal_buffers_takes_two_of_them(size: int, count: int) -> None:
    assert place(chain([size] * count)).peak == 2 * -(-size // 64) * 64


def test_an_arena_without_buffers() -> None:
    assert place([]) == Arena((), 0)
    assert lower_bound([]) == 0


def test_an_ended_buffers_place_is_used_again() -> None:
    found = place([Lifetime(100, 0, 1), Lifetime(100, 1, 2), Lifetime(100, 2, 3)])
    assert found == Arena((0, 128, 0), 256)


@pytest.mark.parametrize("collide", [False, True])
def test_equal_constants_are_pooled_once(collide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the checksums of different constants are the same."""
    if collide:
        monkeypatch.setattr("teflon_common.arena.hash", lambda _data: 7, raising=False)
    pool = Pool("weights", 16)
    things = [b"a" * 20, b"b" * 20, b"a" * 20, b"b" * 20, b"c"]
    offsets = [pool.add(thing) for thing in things]
    apart = pool.add(b"c", room=100, once=False)
    assert pool.offsets == [*offsets, apart]
    assert offsets[0] != offsets[1]
    if not collide:
        assert offsets == [0, 32, 0, 32, 64]
    buffer = pool.buffer
    data = bytes(buffer.data or b"")
    for thing, offset in zip((*things, b"c"), (*offsets, apart), strict=True):
        assert data[offset : offset + len(thing)] == thing
        assert offset % 16 == 0
    assert apart not in offsets
    assert buffer.size == apart + 100 > len(data)


def test_a_row_has_no_overlaps() -> None:
    assert row([1, 64, 65]) == Arena((0, 64, 128), 256)
    assert row([]) == Arena((), 0)
