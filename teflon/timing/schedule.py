"""The schedule of a simulated chip: which job ran when on which core, and checks of it.

Times are modelled milliseconds. Addresses are device addresses; each open file has its own.
"""

# Ref: docs/hardware/rocket.md §1.6 (one job for each core, files in order)
# Ref: docs/hardware/rocket.md §2.2 (readers leave no fence)

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

SLACK = 1e-9
"""Milliseconds of rounding error that comparisons of times allow."""


@dataclass(frozen=True, order=True)
class Span:
    """Bytes of an address space: from `start` to before `end`."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"#{self.start:08x}..#{self.end:08x}"


@dataclass(frozen=True)
class Run:
    """A job: its open file, its times, its core, and the bytes that it read and wrote.

    number: its place in the order in which all events were added to the schedule.
    """

    number: int
    file: int
    submit: int
    job: int
    core: int
    submitted: float
    start: float
    end: float
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    name: str = ""

    def __str__(self) -> str:
        return f"file {self.file} submit {self.submit} job {self.job}"


@dataclass(frozen=True)
class Touch:
    """An access of the CPU to a buffer: it read after a wait for the buffer, or it has written."""

    number: int
    file: int
    at: float
    span: Span
    wrote: bool

    def __str__(self) -> str:
        return f"file {self.file}: the CPU {'wrote' if self.wrote else 'reads'} {self.span}"


@dataclass(frozen=True)
class Schedule:
    """All jobs of one chip; `lost` counts older runs and touches that are not kept."""

    chip: str
    cores: int
    runs: tuple[Run, ...]
    touches: tuple[Touch, ...] = ()
    lost: int = 0

    @property
    def end(self) -> float:
        """Return the end of the last job."""
        return max((run.end for run in self.runs), default=0.0)

    def busy(self) -> list[float]:
        """Return for each core the milliseconds in which it worked."""
        sums = [0.0] * self.cores
        for run in self.runs:
            sums[run.core] += run.end - run.start
        return sums

    def problems(self) -> list[str]:
        """Return a sentence for each contradiction; empty if there is none.

        These are: two jobs on one core at the same time; a job that starts before its submit, or
        before the previous job of its file has ended; bytes that a job or the CPU uses while a job
        writes them, or writes while a job reads them.
        """
        found = [
            f"{run}: starts at {run.start:.4f} ms, before it was submitted at {run.submitted:.4f}"
            for run in self.runs
            if run.start < run.submitted - SLACK
        ]
        for core in range(self.cores):
            found += _overlaps(core, [r for r in self.runs if r.core == core])
        for file in dict.fromkeys(r.file for r in self.runs):
            runs = sorted((r for r in self.runs if r.file == file), key=lambda r: r.number)
            running = _RunningJobs(runs)
            found += _order(runs)
            found += _hazards(runs, running)
            found += _cpu_hazards(runs, running, [t for t in self.touches if t.file == file])
        return found


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same bytes as the smallest number of spans, in order."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def _common_span(first: Sequence[Span], second: Sequence[Span]) -> Span | None:
    """Return the first bytes that are in both lists, which are in order and without overlaps."""
    one, two = 0, 0
    while one < len(first) and two < len(second):
        low = max(first[one].start, second[two].start)
        high = min(first[one].end, second[two].end)
        if low < high:
            return Span(low, high)
        if first[one].end < second[two].end:
            one += 1
        else:
            two += 1
    return None


def _overlaps(core: int, runs: Sequence[Run]) -> Iterator[str]:
    latest: Run | None = None
    for run in sorted(runs, key=lambda r: (r.start, r.end)):
        if latest is not None and run.start < latest.end - SLACK:
            yield (
                f"{run}: starts at {run.start:.4f} ms on core {core}, which runs {latest} until"
                f" {latest.end:.4f}"
            )
        if latest is None or latest.end < run.end:
            latest = run


def _order(runs: Sequence[Run]) -> Iterator[str]:
    for before, run in pairwise(runs):
        if run.start < before.end - SLACK:
            yield (
                f"{run}: starts at {run.start:.4f} ms, before {before} of the same file ended at"
                f" {before.end:.4f}"
            )


def _hazards(runs: Sequence[Run], running: _RunningJobs) -> Iterator[str]:
    """Compare each job with the earlier jobs that have not ended when it starts."""
    for place, run in enumerate(runs):
        for before in running(place, run.start):
            for how, mine, its in (
                ("reads {}, which {} writes", run.reads, before.writes),
                ("writes {}, which {} reads", run.writes, before.reads),
                ("writes {}, which {} writes", run.writes, before.writes),
            ):
                if span := _common_span(mine, its):
                    yield (
                        f"{run}: {how.format(span, before)} until {before.end:.4f} ms, from"
                        f" {run.start:.4f} on"
                    )


class _RunningJobs:
    """Finds the jobs of a file that run at a time: a few, unless the schedule is broken."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._latest = list(accumulate((r.end for r in runs), max))

    def __call__(self, count: int, at: float) -> Iterator[Run]:
        """Yield those of the first `count` jobs that end after `at`."""
        while count and self._latest[count - 1] > at + SLACK:
            count -= 1
            if self._runs[count].end > at + SLACK:
                yield self._runs[count]


def _cpu_hazards(
    runs: Sequence[Run], running: _RunningJobs, touches: Sequence[Touch]
) -> Iterator[str]:
    """Compare each access of the CPU with earlier jobs that have not ended."""
    numbers = [run.number for run in runs]
    for touch in touches:
        earlier = bisect.bisect_left(numbers, touch.number)
        yield from _conflicts(touch, running(earlier, touch.at))


def _conflicts(touch: Touch, running: Iterable[Run]) -> Iterator[str]:
    uses: tuple[tuple[str, Callable[[Run], tuple[Span, ...]]], ...] = (
        ("writes", lambda run: run.writes),
        *((("reads", lambda run: run.reads),) if touch.wrote else ()),
    )
    for run in running:
        for verb, spans in uses:
            if _common_span((touch.span,), spans(run)):
                yield f"{touch} at {touch.at:.4f} ms, {run} {verb} there until {run.end:.4f}"
                break


class Clock:
    """The modelled time of one open file, in milliseconds.

    A submit happens at `now`. Waiting for a job sets the clock to the job's end. A program that
    models other work, such as the host's or the arrival of a picture, moves the clock itself.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def until(self, at: float) -> None:
        """Set the time to `at`, unless it is later already."""
        self.now = max(self.now, at)

    def advance(self, milliseconds: float) -> None:
        """Let time pass."""
        self.now += milliseconds


@dataclass(frozen=True)
class Timeline:
    """The modelled time of a simulated chip: of one open file, and the schedule of all files."""

    file: int
    clock: Clock
    schedule: Callable[[], Schedule]
