"""Schedules in modelled time: what is wrong is named, and the scheduler does nothing wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.timing.schedule import Clock, Run, Schedule, Span, Touch, merged
from teflon_common.scheduler import Scheduler

A, B = Span(0x1000, 0x2000), Span(0x2000, 0x3000)

FIRST = Run(0, 0, 0, 0, core=0, submitted=0.0, start=0.0, end=5.0, reads=(A,), writes=(B,))
SECOND = Run(1, 0, 0, 1, core=0, submitted=0.0, start=5.0, end=8.0, reads=(B,), writes=(A,))
READ = Touch(2, 0, at=8.0, span=A, wrote=False)
WROTE = Touch(3, 0, at=9.0, span=B, wrote=True)


def schedule(*changed: Run | Touch) -> Schedule:
    """Return a schedule without problems, but for events that replace those of their numbers."""
    events = {event.number: event for event in (FIRST, SECOND, READ, WROTE, *changed)}
    runs = tuple(e for e in events.values() if isinstance(e, Run))
    touches = tuple(e for e in events.values() if isinstance(e, Touch))
    return Schedule("chip", 3, runs, touches)


def problems(*changed: Run | Touch) -> str:
    return "\n".join(schedule(*changed).problems())


def test_a_good_schedule_has_no_problems() -> None:
    assert problems() == ""
    assert schedule().end == 8.0
    assert schedule().busy() == [8.0, 0.0, 0.0]
    assert Schedule("chip", 1, ()).problems() == []


def test_two_jobs_on_a_core() -> None:
    other = Run(4, 1, 0, 0, core=0, submitted=0.0, start=7.0, end=9.0)
    assert problems(other) == (
        "file 1 submit 0 job 0: starts at 7.0000 ms on core 0, which runs file 0 submit 0 job 1"
        " until 8.0000"
    )
    inside = replace(other, start=1.0, end=2.0)
    assert "on core 0, which runs file 0 submit 0 job 0 until 5.0000" in problems(inside)
    assert problems(replace(other, core=1)) == ""


def test_a_job_before_it_was_submitted() -> None:
    early = replace(FIRST, submitted=0.5)
    assert problems(early) == (
        "file 0 submit 0 job 0: starts at 0.0000 ms, before it was submitted at 0.5000"
    )


def test_a_file_out_of_order_is_named_with_every_hazard() -> None:
    """On another core, so that nothing else is wrong."""
    soon = replace(SECOND, core=1, start=2.0, end=3.0)
    assert problems(soon).splitlines() == [
        "file 0 submit 0 job 1: starts at 2.0000 ms, before file 0 submit 0 job 0 of the same file"
        " ended at 5.0000",
        "file 0 submit 0 job 1: reads #00002000..#00003000, which file 0 submit 0 job 0 writes"
        " until 5.0000 ms, from 2.0000 on",
        "file 0 submit 0 job 1: writes #00001000..#00002000, which file 0 submit 0 job 0 reads"
        " until 5.0000 ms, from 2.0000 on",
    ]


@pytest.mark.parametrize(
    ("reads", "writes", "said"),
    [
        ((B,), (), "reads #00002000..#00003000"),
        ((Span(0x2FFF, 0x4000),), (), "reads #00002fff..#00003000"),
        ((), (A,), "writes #00001000..#00002000, which file 0 submit 0 job 0 reads"),
        ((), (B,), "writes #00002000..#00003000, which file 0 submit 0 job 0 writes"),
        ((A,), (Span(0x3000, 0x4000),), ""),
    ],
)
def test_read_before_write_and_write_before_read(
    reads: tuple[Span, ...], writes: tuple[Span, ...], said: str
) -> None:
    """The order of the jobs turned round in time."""
    first = replace(FIRST, start=4.0, end=6.0)
    second = replace(SECOND, start=0.0, end=4.0, reads=reads, writes=writes)
    found = schedule(first, second).problems()
    assert "of the same file" in found[0]
    assert [said in problem for problem in found[1:]] == ([True] if said else [])


def test_the_cpu_reads_too_soon() -> None:
    assert problems(replace(READ, at=7.0)) == (
        "file 0: the CPU reads #00001000..#00002000 at 7.0000 ms, file 0 submit 0 job 1 writes"
        " there until 8.0000"
    )
    assert problems(replace(READ, at=7.0, span=B)) == "", "no job writes it any more"
    assert problems(replace(READ, at=7.0, file=1)) == "", "another address space"


def test_the_cpu_writes_a_buffer_in_use() -> None:
    assert problems(replace(WROTE, at=6.0)) == (
        "file 0: the CPU wrote #00002000..#00003000 at 6.0000 ms, file 0 submit 0 job 1 reads"
        " there until 8.0000"
    )
    before = replace(WROTE, at=0.0, number=-1)
    assert problems(replace(WROTE, at=9.0), before) == "", "what came before a job does not matter"


def test_spans_are_merged() -> None:
    assert merged([B, A, Span(5, 6)]) == (Span(5, 6), Span(0x1000, 0x3000))


def test_a_clock_never_goes_back() -> None:
    clock = Clock()
    clock.advance(2.0)
    clock.until(1.0)
    assert clock.now == 2.0
    clock.until(3.0)
    assert clock.now == 3.0


# the scheduler

SUBMITS = st.lists(
    st.tuples(
        st.integers(0, 6), st.floats(0, 20), st.lists(st.floats(0.01, 30), min_size=1, max_size=3)
    ),
    max_size=40,
)


def run(submits: list[tuple[int, float, list[float]]], cores: int) -> Schedule:
    """Return what a scheduler makes of (file, milliseconds since the last submit, jobs)."""
    scheduler, now, runs = Scheduler(cores), 0.0, list[Run]()
    for number, (file, later, jobs) in enumerate(submits):
        now += later
        for job, slot in enumerate(scheduler.submit(file, now, jobs)):
            place = (len(runs), file, number, job)
            runs.append(Run(*place, slot.core, now, slot.start, slot.end, (A,), (B,)))
    return Schedule("chip", cores, tuple(runs))


@given(SUBMITS, st.integers(1, 4))
def test_jobs_run_in_order_and_without_problems(
    submits: list[tuple[int, float, list[float]]], cores: int
) -> None:
    made = run(submits, cores)
    assert made.problems() == []
    for core in range(cores):
        own = [r for r in made.runs if r.core == core]
        assert all(a.end <= b.start for a, b in pairwise(own))
        for before, one in pairwise(own):  # it waits for nothing but the job before it
            assert one.start == max(one.submitted, before.end)


@given(SUBMITS)
def test_threads_may_submit_in_any_order(submits: list[tuple[int, float, list[float]]]) -> None:
    scheduler, runs = Scheduler(3), list[Run]()
    for number, (file, at, jobs) in enumerate(submits):  # `at` goes up and down
        clock = max((r.end for r in runs if r.file == file), default=0.0)
        for job, slot in enumerate(scheduler.submit(file, clock + at, jobs)):
            place = (len(runs), file, number, job)
            runs.append(Run(*place, slot.core, clock + at, slot.start, slot.end))
    assert Schedule("chip", 3, tuple(runs)).problems() == []


def test_a_file_stays_on_its_core_while_it_has_jobs() -> None:
    scheduler = Scheduler(3)
    first = scheduler.submit(0, 0.0, [5.0, 5.0])
    second = scheduler.submit(0, 9.0, [5.0])
    assert {slot.core for slot in (*first, *second)} == {0}
    assert [slot.start for slot in (*first, *second)] == [0.0, 5.0, 10.0]


def test_files_spread_over_the_cores() -> None:
    scheduler = Scheduler(3)
    slots = [scheduler.submit(file, 0.0, [5.0])[0] for file in range(6)]
    assert [slot.core for slot in slots] == [0, 1, 2, 0, 1, 2]
    assert [slot.start for slot in slots] == [0.0] * 3 + [5.0] * 3


def test_an_idle_file_counts_as_load_until_it_is_closed() -> None:
    scheduler = Scheduler(2)
    assert scheduler.submit(0, 0.0, [1.0])[0].core == 0
    assert scheduler.submit(1, 5.0, [1.0])[0].core == 1, "file 0 is still on core 0's list"
    assert scheduler.submit(1, 9.0, [1.0])[0].core == 0, "one idle file on each: the first core"
    scheduler.close(0)
    assert scheduler.submit(2, 20.0, [1.0])[0].core == 1
    scheduler.close(7)
