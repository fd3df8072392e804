"""A model of Linux's scheduler for accelerator jobs: on which core each job runs, and when."""

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
"""Ends of jobs that a core remembers, to compute its load at earlier times."""


@dataclass(frozen=True)
class Slot:
    """The core of a job, its start and its end in milliseconds."""

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
    """The queues of all cores; a core runs jobs in the order of the calls of `submit`.

    If calls are made in the order of time, this is what the kernel does. Threads may call in
    another order: then a job runs after those of earlier calls on its core, even if its own time is
    earlier. Callers must hold a lock.
    """

    def __init__(self, cores: int) -> None:
        self._cores = [_Core() for _ in range(cores)]
        self._entities: dict[int, _Entity] = {}

    def submit(self, entity: int, at: float, milliseconds: Sequence[float]) -> list[Slot]:
        """Return core, start and end of each job that an open file submits at time `at`."""
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
