"""The time of a stage: one thread of the host feeds the cores and joins their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Assumptions:
    """Numbers that the drivers' models of time do not contain. None was measured on a board."""

    copy: float = 1e6
    """Bytes that the host copies or converts in a millisecond; the drivers' models assume it too.
    """
    request: float = 0.1
    """Further milliseconds of the host for each part: requests to the kernel, Python. Half of it
    was measured on a PC whose kernel does nothing (docs/cores.md).
    """
    sharing: float = 0.0
    """0: each core has its own memory rate; 1: all cores of a stage share the rate of one core."""


ASSUMPTIONS = Assumptions()


@dataclass(frozen=True)
class Effort:
    """The milliseconds of one part of a stage: of the host before the chip, the chip, the host
    after it.
    """

    before: float
    array: float  # the chip's time without memory
    memory: float
    after: float

    def chip(self, cores: int, assumptions: Assumptions) -> float:
        """Return the chip's milliseconds while `cores` cores work."""
        return self.array + self.memory * (1 + assumptions.sharing * (cores - 1))


def duration(efforts: Sequence[Effort], assumptions: Assumptions) -> float:
    """Return the milliseconds of a stage.

    The host feeds the parts one after the other, they run at the same time, and the host joins them
    one after the other.
    """
    cores, now = len(efforts), 0.0
    ends = []
    for effort in efforts:
        now += effort.before + assumptions.request
        ends.append(now + effort.chip(cores, assumptions))
    for effort, end in zip(efforts, ends, strict=True):
        now = max(now, end) + effort.after
    return now
