"""What every operation on the device is, whichever of its units do the work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from teflon_common.registers import Block
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Constant, Feature


class Operation(ABC):
    """One step of a program: it runs as one or several tasks, each with a command list of its own.

    A subclass is a small frozen dataclass, compared by identity. Assembling, placing, chaining and
    printing use this class only, so a further kind of operation needs no change there.
    """

    units: ClassVar[tuple[type[Block], ...]]
    """The units that each of its command lists starts."""

    name: str
    """The model's name for it; several may have one name, as parts of one operation do."""
    macs: int
    """Multiply-accumulates that the model asks for; 0 where nothing is multiplied and summed."""

    @property
    def performed(self) -> int:
        """Multiply-accumulates that the array does for it, which may be more than `macs`."""
        return self.macs

    @property
    @abstractmethod
    def reads(self) -> tuple[Feature, ...]:
        """The feature maps that it reads, the main one first."""

    @property
    @abstractmethod
    def writes(self) -> tuple[Feature, ...]:
        """The feature maps that it writes."""

    @property
    def features(self) -> tuple[Feature, ...]:
        """All of them, each once, as buffers are made: what is read first, results, the rest."""
        return tuple(dict.fromkeys((*self.reads[:1], *self.writes, *self.reads[1:])))

    def surfaces(self, feature: Feature) -> int:
        """Return how many surfaces of each image of one of its maps the device may touch.

        These are more than the map has where a unit works on groups of channels. Nothing uses what
        lies after the map's own surfaces, but it must be mapped and must hold nothing else.
        """
        return feature.surfaces

    @property
    def constants(self) -> tuple[Constant, ...]:
        """What else its tasks read, in the order in which buffers are made. Always the same ones:
        addresses point at them.
        """
        return ()

    @property
    @abstractmethod
    def tasks(self) -> int:
        """How many tasks it is cut into; they run in order."""

    @abstractmethod
    def emit(self, task: int, commands: Commands) -> None:
        """Write the registers of one task, all but the trailer that starts the units.

        Raises FieldOverflow where a value does not fit.
        """

    @property
    @abstractmethod
    def moved(self) -> int:
        """Bytes that its tasks read and write in memory, command lists aside."""

    @abstractmethod
    def text(self) -> str:
        """Return what it is, a line, and a line for each task, for TEFLON_DEBUG=rocket-tasks."""
