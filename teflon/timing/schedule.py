"""Who ran when by the model of time: a simulated chip's schedule, and what is wrong with it.

Times are modelled milliseconds. Addresses are the device's, apart for each open file.
"""

# Ref: docs/hardware/rocket.md §1.6 (one job for each core, files in order)
# Ref: docs/hardware/rocket.md §2.2 (readers leave no fence)

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

SLACK = 1e-9
"""Milliseconds by which sums of the same parts may differ."""


@dataclass(frozen=True, order=True)
class Span:
    """Bytes of an address space: from `start` to before `end`."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"#{self.start:08x}..#{self.end:08x}"


@dataclass(frozen=True)
class Run:
    """A job: whose, when the chip was given it, when and where it ran, which bytes it touched.

    number: its place among all events of the schedule, in the order in which they were told.
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
    """The CPU used a buffer: it was told that it may read it, or said that it has written it."""

    number: int
    file: int
    at: float
    span: Span
    wrote: bool

    def __str__(self) -> str:
        return f"file {self.file}: the CPU {'wrote' if self.wrote else 'reads'} {self.span}"


@dataclass(frozen=True)
class Schedule:
    """What the cores of one chip did. `lost`: older runs and touches that are not kept."""

    chip: str
    cores: int
    runs: tuple[Run, ...]
    touches: tuple[Touch, ...] = ()
    lost: int = 0

    @property
    def end(self) -> float:
        """Return when the last job ended."""
        return max((run.end for run in self.runs), default=0.0)

    def busy(self) -> list[float]:
        """Return the milliseconds that each core worked."""
        sums = [0.0] * self.cores
        for run in self.runs:
            sums[run.core] += run.end - run.start
        return sums

    def problems(self) -> list[str]:
        """Return what cannot be or must not be, one sentence each; none where all is well.

        Two jobs on a core at once; a job before it was submitted, or before the job before it of
        its file has ended; bytes read before they are written, or written while they are read, by
        jobs or by the CPU.
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
            unended = _Unended(runs)
            found += _order(runs)
            found += _hazards(runs, unended)
            found += _touched(runs, unended, [t for t in self.touches if t.file == file])
        return found


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same bytes as few spans, in order."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return tuple(found)


def _common(first: Sequence[Span], second: Sequence[Span]) -> Span | None:
    """Return the first bytes that are in both; both are in order and without overlaps."""
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
                f"{run}: starts at {run.start:.4f} ms on core {core}, which has {latest} until"
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


def _hazards(runs: Sequence[Run], unended: _Unended) -> Iterator[str]:
    """Compare every job with those told before it that have not ended when it starts."""
    for place, run in enumerate(runs):
        for before in unended(place, run.start):
            for how, mine, its in (
                ("reads {}, which {} writes", run.reads, before.writes),
                ("writes {}, which {} reads", run.writes, before.reads),
                ("writes {}, which {} writes", run.writes, before.writes),
            ):
                if span := _common(mine, its):
                    yield (
                        f"{run}: {how.format(span, before)} until {before.end:.4f} ms, from"
                        f" {run.start:.4f} on"
                    )


class _Unended:
    """Finds jobs of a file that are under way: a few, unless the schedule is broken."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._latest = list(accumulate((r.end for r in runs), max))

    def __call__(self, count: int, at: float) -> Iterator[Run]:
        """Yield those of the first `count` jobs that end after a time."""
        while count and self._latest[count - 1] > at + SLACK:
            count -= 1
            if self._runs[count].end > at + SLACK:
                yield self._runs[count]


def _touched(runs: Sequence[Run], unended: _Unended, touches: Sequence[Touch]) -> Iterator[str]:
    """Compare what the CPU touches with jobs that were submitted before and have not ended."""
    numbers = [run.number for run in runs]
    for touch in touches:
        told = bisect.bisect_left(numbers, touch.number)
        yield from _conflicts(touch, unended(told, touch.at))


def _conflicts(touch: Touch, unended: Iterable[Run]) -> Iterator[str]:
    uses: tuple[tuple[str, Callable[[Run], tuple[Span, ...]]], ...] = (
        ("writes", lambda run: run.writes),
        *((("reads", lambda run: run.reads),) if touch.wrote else ()),
    )
    for run in unended:
        for verb, spans in uses:
            if _common((touch.span,), spans(run)):
                yield f"{touch} at {touch.at:.4f} ms, {run} {verb} there until {run.end:.4f}"
                break


class Clock:
    """The modelled time of whoever has a device open, in milliseconds.

    What is submitted is submitted now; waiting for it makes it as late as its end. Who models what
    happens between, such as work of the host or the coming of a picture, moves it on.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def until(self, at: float) -> None:
        """Let it be that late, if it is not later already."""
        self.now = max(self.now, at)

    def advance(self, milliseconds: float) -> None:
        """Let time pass."""
        self.now += milliseconds


@dataclass(frozen=True)
class Timeline:
    """Modelled time as an opened simulated chip keeps it: of this open file, and of all files."""

    file: int
    clock: Clock
    schedule: Callable[[], Schedule]
