"""Protocols of modelled time: what a simulator offers that predicts when its jobs run.

`teflon.timing.schedule` has the classes of our own simulators. Other code relies on these protocols
only, so that a simulator of any plugin can predict times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Clock(Protocol):
    """The modelled time of one open file, in milliseconds."""

    @property
    def now(self) -> float: ...

    def until(self, at: float) -> None:
        """Set the time to `at`, unless it is later already."""

    def advance(self, milliseconds: float) -> None:
        """Let time pass, for example for work of the host between two submits."""


class Schedule(Protocol):
    """All jobs that the cores of one chip have run so far."""

    @property
    def chip(self) -> str: ...

    @property
    def cores(self) -> int: ...

    @property
    def runs(self) -> Sequence[Any]:
        """Return a record for each job: its open file, its core, its start and its end."""

    @property
    def end(self) -> float:
        """Return the end of the last job, in milliseconds."""

    def busy(self) -> list[float]:
        """Return for each core the milliseconds in which it worked."""

    def problems(self) -> list[str]:
        """Return a sentence for each contradiction in the schedule; empty if there is none."""


class Timeline(Protocol):
    """Modelled time of one open file (`clock`) and of all open files of the chip (`schedule`)."""

    @property
    def file(self) -> int:
        """Return the number of this open file in the schedule."""

    @property
    def clock(self) -> Clock: ...

    @property
    def schedule(self) -> Callable[[], Schedule]: ...
