"""How long stages take: one thread of the host feeds the cores and joins what they made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Assumed:
    """What no driver's model says. None of these was measured."""

    copy: float = 1e6
    """Bytes that the host copies or converts in a millisecond, as the drivers' models assume."""
    request: float = 0.1
    """Milliseconds of the host for each part beside that: requests to the kernel, Python. Half of
    it was measured on a PC whose kernel does nothing (docs/cores.md).
    """
    sharing: float = 0.0
    """0: each core reaches memory at its own rate; 1: all cores of a stage share the rate of one.
    """


ASSUMED = Assumed()


@dataclass(frozen=True)
class Effort:
    """What one part of a stage takes: milliseconds of the host before and behind the chip's."""

    before: float
    array: float  # the chip's time without that of memory
    memory: float
    behind: float

    def chip(self, cores: int, assumed: Assumed) -> float:
        """Return the chip's milliseconds while so many cores work."""
        return self.array + self.memory * (1 + assumed.sharing * (cores - 1))


def duration(efforts: Sequence[Effort], assumed: Assumed) -> float:
    """Return the milliseconds of a stage: parts are fed one after the other, run at the same time
    and are joined one after the other.
    """
    cores, now = len(efforts), 0.0
    done = []
    for effort in efforts:
        now += effort.before + assumed.request
        done.append(now + effort.chip(cores, assumed))
    for effort, end in zip(efforts, done, strict=True):
        now = max(now, end) + effort.behind
    return now
