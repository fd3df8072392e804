"""Compiled models: the plan, and the program of each partition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from teflon.compile.partition import Plan, plan_doubts
from teflon.pipe import Device, Program


@dataclass(frozen=True, eq=False)
class Artefact:
    """A compiled model. It is immutable, so any number of loaded models may share it.

    The compile cache and `.teflon` files store artefacts. `run.model.Model` loads one into a
    device.
    """

    plan: Plan
    programs: tuple[Program, ...]
    """The program of each partition of the plan."""
    forget: Callable[[], None] | None = None
    """Removes the entries of the compile cache that this artefact was read from; None for one that
    was not read from a cache.
    """

    @property
    def devices(self) -> tuple[Device, ...]:
        """The device that the user named, then those that run what it leaves."""
        return self.plan.chain

    def on_device(self) -> list[tuple[int, Program]]:
        """Return (number of the partition, program) for all programs of the first device."""
        pairs = zip(self.plan.partitions, self.programs, strict=True)
        return [(part.index, p) for part, p in pairs if part.device == 0]

    def doubts(self) -> list[str]:
        """Return a sentence for each thing that the first device is known to compute wrong."""
        return plan_doubts(self.plan, self.devices[0])
