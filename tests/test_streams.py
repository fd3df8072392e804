"""The schedule of cameras over cores."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streams import CORES, STREAMS, gantt, problems, schedule


@given(st.floats(1, 200), st.floats(0, 40), st.integers(1, 8))
def test_nothing_overlaps_and_cameras_are_served_alike(
    busy: float, host: float, workers: int
) -> None:
    served = schedule(busy, host, workers)
    assert problems(served) == []
    counts = [sum(f.stream == s for f in served) for s in range(STREAMS)]
    if busy + host > 60:  # more comes than can be served: turns decide
        assert max(counts) - min(counts) <= 3
    assert max(f.done - f.start for f in served) <= busy + host + 1e-6


def test_every_frame_is_served_where_there_is_time() -> None:
    assert len(schedule(10.0, 1.0, 3)) == STREAMS * 120
    assert len({f.core for f in schedule(20.0, 1.0, 3)}) == CORES


def test_breaches_are_found() -> None:
    served = schedule(20.0, 1.0, 3)
    early = replace(served[0], start=served[0].arrival - 1)
    assert "before it came" in problems([early])[0]
    assert (
        "overlaps"
        in problems([served[0], replace(served[0], stream=1, start=served[0].start + 1)])[0]
    )
    assert gantt(served, 100.0).count("<rect") > CORES
