"""What is compiled of a model: the plan, and the program of each partition."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.compile.partition import Plan, doubted
from teflon.pipe import Device, Program


@dataclass(frozen=True, eq=False)
class Artefact:
    """A compiled model. Immutable: any number of loaded models may share one.

    It is what the compile cache keeps and what a `.teflon` file holds. `run.model.Model` is an
    artefact that is loaded into a device.
    """

    devices: tuple[Device, ...]
    """The device that was asked for, then the CPU unless it is the same."""
    plan: Plan
    programs: tuple[Program | None, ...]
    """One for each partition of the plan, None where no device can run it."""

    def on_device(self) -> list[tuple[int, Program]]:
        """Return (number of the partition, program) of all that the first device runs."""
        pairs = zip(self.plan.partitions, self.programs, strict=True)
        return [(part.index, p) for part, p in pairs if p is not None and part.device == 0]

    def doubts(self) -> list[str]:
        """Return a sentence for each thing that is known to come out wrong."""
        return doubted(self.plan, self.devices[0])
