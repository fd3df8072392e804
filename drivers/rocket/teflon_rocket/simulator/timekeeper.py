# Ref: docs/hardware/rocket.md §1.6 (one entity for each open file; 15 to 20 us for each job)
"""Modelled time: when each job would run on the chip, however long this computer takes."""

import collections
import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass

from teflon import trace
from teflon.timing.schedule import Run, Schedule, Span, Touch, merged
from teflon_common.scheduler import Scheduler
from teflon_rocket.chips import RATES, Chip

from .clock import Work

_KEPT = 1 << 16
"""Jobs, and accesses of the CPU, that a schedule holds."""
_LOADS = 1024
"""Different jobs whose sums are kept."""


@dataclass(frozen=True)
class _Load:
    """What a job costs and touches. It keeps `works`, whose identities are its key, alive."""

    works: tuple[Work, ...]
    milliseconds: tuple[float, ...]
    reads: tuple[Span, ...]
    writes: tuple[Span, ...]


class Timekeeper:
    """Schedules the jobs of a chip's open files; the kernel's lock guards it.

    sharing: by how much slower a core's memory is than for a core alone.
    """

    def __init__(self, chip: Chip, sharing: float = 1.0) -> None:
        self._chip, self._rates, self._sharing = chip, RATES[chip.name], sharing
        self._scheduler = Scheduler(chip.cores)
        self._runs: collections.deque[Run] = collections.deque(maxlen=_KEPT)
        self._touches: collections.deque[Touch] = collections.deque(maxlen=_KEPT)
        self._loads: dict[tuple[int, ...], _Load] = {}
        self._told = 0
        name = f"{chip.name}, modelled time"
        self._tracks = [trace.track(f"{chip.name} core {n}", name) for n in range(chip.cores)]

    def _number(self) -> int:
        self._told += 1
        return self._told - 1

    def submit(
        self, file: int, place: tuple[int, int], at: float, works: Sequence[Work], name: str
    ) -> Run:
        """Return when, and on which core, a job runs that a file submits at a time.

        place: numbers of the submit and of the job in it.
        """
        load = self._load(works)
        whole = self._rates.job + sum(load.milliseconds)
        (slot,) = self._scheduler.submit(file, at, [whole])
        run = Run(
            self._number(), file, *place, slot.core, at, slot.start, slot.end,
            load.reads, load.writes, name,
        )  # fmt: skip
        self._runs.append(run)
        return run

    def _load(self, works: Sequence[Work]) -> _Load:
        key = tuple(map(id, works))
        if (found := self._loads.get(key)) is None:
            if len(self._loads) >= _LOADS:
                self._loads.clear()
            found = self._loads[key] = _Load(
                tuple(works),
                tuple(work.milliseconds(self._rates, self._sharing) for work in works),
                merged(span for work in works for span in work.reads),
                merged(span for work in works for span in work.writes),
            )
        return found

    def show(self, run: Run, works: Sequence[Work], names: Sequence[str]) -> None:
        """Put a job into the trace, and its operations where there is a name for each task."""
        track = self._tracks[run.core]
        if not track:
            return
        trace.modelled(run.name, track, run.start, run.end, job=str(run), submitted=run.submitted)
        at, times = run.start + self._rates.job, self._load(works).milliseconds
        if len(names) != len(times):
            return
        pairs = zip(names, times, strict=True)
        for name, group in itertools.groupby(pairs, operator.itemgetter(0)):
            start, at = at, at + sum(ms for _, ms in group)
            trace.modelled(name, track, start, at, operation=name)

    def touch(self, file: int, at: float, span: Span, wrote: bool) -> None:
        """Note that the CPU may read a buffer, or has written it."""
        self._touches.append(Touch(self._number(), file, at, span, wrote))

    def close(self, file: int) -> None:
        """Forget an open file; the schedule keeps what it did."""
        self._scheduler.close(file)

    def schedule(self) -> Schedule:
        """Return what was scheduled so far."""
        lost = self._told - len(self._runs) - len(self._touches)
        runs, touches = tuple(self._runs), tuple(self._touches)
        return Schedule(self._chip.name, self._chip.cores, runs, touches, lost)
