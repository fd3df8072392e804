"""Predicting the time of a model: the cost of each step, by the drivers' models of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from teflon.compile.artefact import Artefact
from teflon.pipe import HOST, MEMORY, Cost

RESOURCES = ("array", MEMORY, "launch", HOST)
"""What uses time: the MAC array, DRAM, starting jobs, the host's CPU."""

COUNTS = (
    "macs", "array_cycles", "dram_read", "dram_written", "coefficient_bytes", "sram_hits",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One step of an inference: its partition, its device, its cost."""

    partition: int
    device: str
    cost: Cost


@dataclass(frozen=True)
class Estimate:
    """The cost of a model on a device, and on the CPU for what the device does not run."""

    model: str
    device: str
    steps: tuple[Step, ...]
    """Operations that no device runs; they are not counted."""
    remarks: tuple[str, ...] = ()
    """Remarks of the device's programs."""

    @property
    def total_ms(self) -> float:
        return sum(step.cost.total_ms for step in self.steps)

    def milliseconds(self) -> dict[str, float]:
        """Return the time for each resource, in the order of RESOURCES, then others."""
        sums = dict.fromkeys(RESOURCES, 0.0)
        for step in self.steps:
            for name, ms in step.cost.milliseconds.items():
                sums[name] = sums.get(name, 0.0) + ms
        return sums

    def on_chip(self) -> tuple[Step, ...]:
        """Return the steps of the device itself, without those of the host."""
        return tuple(s for s in self.steps if s.device == self.device and s.cost.engine != HOST)

    def totals(self) -> dict[str, int]:
        """Return the sums of the counts over the steps of the device itself."""
        return {name: sum(getattr(s.cost, name) for s in self.on_chip()) for name in COUNTS}

    def utilisation(self) -> float:
        """Return the share of the array's peak that is used while the device works, 0 to 1."""
        steps = [s.cost for s in self.on_chip()]
        possible = sum(cost.peak * cost.total_ms for cost in steps)
        return sum(cost.macs for cost in steps) / possible if possible else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON; times in ms, sizes in bytes."""
        return {
            "format": 1,
            "model": self.model,
            "device": self.device,
            "steps": [
                {
                    "partition": step.partition,
                    "device": step.device,
                    "name": step.cost.name,
                    "engine": step.cost.engine,
                    **{name: getattr(step.cost, name) for name in COUNTS},
                    "ms": step.cost.total_ms,
                    "ms_by_resource": dict(step.cost.milliseconds),
                    "utilisation": step.cost.utilisation,
                    "limit": step.cost.limit,
                }
                for step in self.steps
            ],
            "totals": {
                **self.totals(),
                "ms": self.total_ms,
                "ms_by_resource": self.milliseconds(),
                "utilisation": self.utilisation(),
            },
            "remarks": list(self.remarks),
        }


def estimate(artefact: Artefact) -> Estimate:
    """Return the predicted cost of a compiled model.

    Partitions run one after the other, without overlap. Raises DriverUnavailable if a driver has no
    model of time.
    """
    steps: list[Step] = []
    remarks: list[str] = []
    plan, devices = artefact.plan, artefact.devices
    for part, program in zip(plan.partitions, artefact.programs, strict=True):
        device = devices[part.device]
        steps += [Step(part.index, device.chip, cost) for cost in device.estimate(program)]
        remarks += [f"partition {part.index}: {remark}" for remark in program.remarks]
    return Estimate(plan.graph.name, devices[0].chip, tuple(steps), tuple(remarks))
