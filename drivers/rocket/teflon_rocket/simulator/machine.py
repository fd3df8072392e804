# Ref: docs/hardware/rocket.md §1.2 (enable mask), §8 (semantics)
"""The simulated NPU: executes command lists on device memory.

It reads only what the hardware would read. What is undefined, not documented or not modelled raises
a SimulatorFault that names register, task and operation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import Chip

from .clock import Work
from .engine import Core, Engine, Task
from .engines import ENGINES
from .policy import STRICT, Deviation, Policy
from .registerfile import collect

_PLANS = 4096
"""Decoded command lists that are kept."""


@dataclass(frozen=True)
class Observation:
    """A tolerated breach and where it happened."""

    where: str
    deviation: Deviation


@dataclass(frozen=True)
class _Plan:
    """A decoded command list, and what runs it."""

    engine: Engine[Any]
    task: Task


@dataclass
class Machine:
    """A chip's cores on one device address space."""

    chip: Chip
    memory: DeviceMemory
    policy: Policy = STRICT
    observations: list[Observation] = field(default_factory=list)
    """What a lenient policy tolerated, in order."""
    tasks: int = 0
    macs: int = 0

    def __post_init__(self) -> None:
        self._cores = [Core() for _ in range(self.chip.cores)]
        self._engines = {
            mask: kind(self.chip, self.memory, self.policy) for mask, kind in ENGINES.items()
        }
        self._plans: dict[bytes, _Plan] = {}
        self._works: dict[tuple[int, bytes], Work] = {}

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        """Execute the list of `count` 64-bit commands at an address on one core.

        Raises SimulatorFault, its text starting with `where`.
        """
        try:
            plan = self._plan(self._commands(regcmd_address, count))
            self.observations += [Observation(where, d) for d in plan.task.deviations]
            if not plan.task.empty:
                self.execute(plan.engine, plan.task, self._cores[core])
        except SimulatorFault as fault:
            raise SimulatorFault(f"{where}: {fault}") from fault
        self.tasks += 1
        self.macs += plan.task.macs

    def tolerated(self) -> dict[str, str]:
        """Return, and forget, what was observed since the last call: rule -> the first text."""
        seen, self.observations = self.observations, []
        return {o.deviation.breach.name: f"{o.where}: {o.deviation.text}" for o in reversed(seen)}

    def execute(self, engine: Engine[Any], task: Task, core: Core) -> None:
        """Let an engine execute a task that is not empty."""
        engine.run(task, core)

    def work(self, regcmd_address: int, count: int) -> Work:
        """Return what a command list costs and touches, without running it.

        Raises SimulatorFault where it cannot be decoded.
        """
        data = self._commands(regcmd_address, count)
        found = self._works.get((regcmd_address, data))
        if found is None:
            if len(self._works) >= _PLANS:
                self._works.clear()
            plan = self._plan(data)
            found = plan.engine.work(plan.task, regcmd_address, count)
            self._works[regcmd_address, data] = found
        return found

    def interrupts(self, regcmd_address: int, count: int) -> int:
        """Return the bits of PC.INTERRUPT_STATUS that a command list raises at its end.

        Raises SimulatorFault where it cannot be decoded.
        """
        return self._plan(self._commands(regcmd_address, count)).engine.interrupts()

    def decode(self, regcmd_address: int, count: int) -> Task:
        """Decode and check a command list without running it."""
        return self._plan(self._commands(regcmd_address, count)).task

    def _commands(self, address: int, count: int) -> bytes:
        if count < 1:
            raise SimulatorFault(f"regcmd_count is {count}, must be at least 1")
        return self.memory.view(address, 8 * count, "PC.BASE_ADDRESS").tobytes()

    def _plan(self, data: bytes) -> _Plan:
        plan = self._plans.get(data)
        if plan is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
                for engine in self._engines.values():
                    engine.forget()
            plan = self._plans[data] = self._decoded(data)
        return plan

    def _decoded(self, data: bytes) -> _Plan:
        registers, mask = collect(np.frombuffer(data, "<u8").tolist())
        engine = self._engines.get(mask)
        if engine is None:
            known = " or ".join(f"#{m:x} ({e.title})" for m, e in self._engines.items())
            raise SimulatorFault(
                f"PC.OPERATION_ENABLE: mask is #{mask:x}, must be {known}; others are not modelled"
            )
        return _Plan(engine, engine.plan(registers))
