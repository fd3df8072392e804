"""Linux's scheduler of accelerator jobs, in modelled time: who runs on which core, and when."""

# Ref: Linux, drivers/gpu/drm/scheduler/sched_entity.c (drm_sched_entity_select_rq: an entity keeps
# Ref: its core until its last job is done), sched_main.c (drm_sched_pick_best: the lowest score,
# Ref: the first core among equals; a score counts jobs that are not done and entities on the core's
# Ref: list, which idle ones stay on; the entity whose job waits for longest goes first)
# Ref: docs/hardware/rocket.md §1.6 (one job at a time for each core)

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

_KEPT = 4096
"""Ends of jobs that a core remembers to tell how loaded it was."""


@dataclass(frozen=True)
class Slot:
    """Where and when a job runs; milliseconds."""

    core: int
    start: float
    end: float


@dataclass
class _Core:
    entities: set[int] = field(default_factory=set)
    ends: list[float] = field(default_factory=list)

    def score(self, at: float) -> int:
        return len(self.entities) + len(self.ends) - bisect.bisect_right(self.ends, at)


@dataclass
class _Entity:
    core: int | None = None
    end: float = 0.0


class Scheduler:
    """Queues of cores that take jobs in the order in which they were submitted.

    What was decided stays: a job that is told later never runs before one that was told sooner on
    the same core, even if its time is earlier (threads may tell in any order). Told in the order of
    time, this is what the kernel does. Not safe for threads.
    """

    def __init__(self, cores: int) -> None:
        self._cores = [_Core() for _ in range(cores)]
        self._entities: dict[int, _Entity] = {}

    def submit(self, entity: int, at: float, milliseconds: Sequence[float]) -> list[Slot]:
        """Return where and when jobs run that an open file submits at a time, all at once."""
        return [self._place(self._entities.setdefault(entity, _Entity()), entity, at, ms)
                for ms in milliseconds]  # fmt: skip

    def _place(self, entity: _Entity, number: int, at: float, milliseconds: float) -> Slot:
        if entity.core is None or entity.end <= at:
            best = min(range(len(self._cores)), key=lambda n: self._cores[n].score(at))
            if entity.core is not None:
                self._cores[entity.core].entities.discard(number)
            entity.core = best
            self._cores[best].entities.add(number)
        core = self._cores[entity.core]
        start = max(at, core.ends[-1] if core.ends else 0.0)
        entity.end = start + milliseconds
        core.ends.append(entity.end)
        if len(core.ends) > 2 * _KEPT:
            del core.ends[:_KEPT]
        return Slot(entity.core, start, entity.end)

    def close(self, entity: int) -> None:
        """Forget an open file."""
        gone = self._entities.pop(entity, None)
        if gone is not None and gone.core is not None:
            self._cores[gone.core].entities.discard(entity)
