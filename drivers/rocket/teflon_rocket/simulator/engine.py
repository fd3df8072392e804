"""Base of what runs tasks: an engine for each kind, that is for each set of units."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from teflon_common.memory import DeviceMemory
from teflon_common.registers import Block
from teflon_rocket.chips import Chip
from teflon_rocket.registers import DPU, GLOBAL, PC, PPU

from .clock import Work
from .cube import Weights
from .policy import Deviation, Policy
from .registerfile import RegisterFile
from .tables import Tables


@dataclass
class Core:
    """What stays in one core between tasks: the weights in its buffer, and the DPU's tables."""

    weights: Weights | None = None
    tables: Tables | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """One command list, decoded and checked; compared by identity.

    deviations: the breaches that the policy tolerates. empty: it computes nothing.
    """

    deviations: tuple[Deviation, ...] = ()
    empty: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates with padding, as the hardware performs them."""
        return 0


T = TypeVar("T", bound=Task)


class Engine(ABC, Generic[T]):
    """Decodes, runs and times tasks of one kind, for one address space.

    It may keep what it prepares for a task, and must prepare it anew when its source has changed.
    """

    title: ClassVar[str]
    """The kind, in words."""
    units: ClassVar[tuple[type[Block], ...]]
    """The units that its tasks start."""

    def __init__(self, chip: Chip, memory: DeviceMemory, policy: Policy) -> None:
        self.chip, self.memory, self.policy = chip, memory, policy

    @classmethod
    def mask(cls) -> int:
        """Return the mask of units in the enable word."""
        return GLOBAL.OPERATION_ENABLE(**{f"{u.__name__}_OP_EN": 1 for u in cls.units}).pack()

    @classmethod
    def interrupts(cls) -> int:
        """Return the bits of PC.INTERRUPT_STATUS that the end of a task raises.

        Those of the unit that writes the result; which register group did it is not known.
        """
        status = PC.INTERRUPT_STATUS
        raised = 0
        if DPU in cls.units:
            raised |= status(DPU_0=1, DPU_1=1).pack()
        if PPU in cls.units:
            raised |= status(PPU_0=1, PPU_1=1).pack()
        return raised

    @abstractmethod
    def plan(self, registers: RegisterFile) -> T:
        """Return the task of a list's registers; raises SimulatorFault for what is wrong in it."""

    @abstractmethod
    def run(self, task: T, state: Core) -> None:
        """Execute a task that is not empty."""

    @abstractmethod
    def touch(self, task: T, state: Core) -> None:
        """Leave in the core what the task leaves there, and a few zeros where it would write."""

    @abstractmethod
    def work(self, task: T, address: int, count: int) -> Work:
        """Return what a task costs; its list of `count` words lies at an address."""

    def forget(self) -> None:
        """Drop what was prepared for single tasks: all of them will be decoded anew."""
