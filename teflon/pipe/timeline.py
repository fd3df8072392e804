"""Modelled time, as a simulated chip tells it.

`teflon.timing.schedule` has the classes that our simulators use. These protocols are what the rest
of the code may rely on, so that a simulator of anybody's can keep time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Clock(Protocol):
    """The modelled time of one open file, in milliseconds."""

    @property
    def now(self) -> float: ...

    def until(self, at: float) -> None:
        """Make it that late, unless it is later already."""

    def advance(self, milliseconds: float) -> None:
        """Let time pass: for work of the host that happens between two submits."""


class Schedule(Protocol):
    """What the cores of one chip did so far."""

    @property
    def chip(self) -> str: ...

    @property
    def cores(self) -> int: ...

    @property
    def runs(self) -> Sequence[Any]:
        """Return a record for each job: whose, on which core, from when to when."""

    @property
    def end(self) -> float:
        """Return when the last job ended, in milliseconds."""

    def busy(self) -> list[float]:
        """Return the milliseconds that each core worked."""

    def problems(self) -> list[str]:
        """Return what cannot be or must not be, one sentence each; empty where all is well."""


class Timeline(Protocol):
    """Modelled time of one open file (`clock`), and of everybody who has the chip open."""

    @property
    def file(self) -> int:
        """Return the number of this open file in the schedule."""

    @property
    def clock(self) -> Clock: ...

    @property
    def schedule(self) -> Callable[[], Schedule]: ...
