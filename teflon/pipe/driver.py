"""What a driver plugin is: the door to the chips of one family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from teflon.errors import DriverUnavailable

if TYPE_CHECKING:
    from teflon.pipe.context import Context
    from teflon.pipe.device import Device

INTERFACE_VERSION = (1, 1)
"""(major, minor): a driver written for another major, or a higher minor, is refused."""


@dataclass(frozen=True)
class Node:
    """A device node that a driver looked at: usable when `problem` is empty."""

    path: str  # "/dev/accel/accel0"
    driver: str  # the driver plugin's name
    chip: str = ""  # "rk3588"; empty where it cannot be told
    problem: str = ""  # why it cannot be used: one sentence
    cure: str = ""  # what the user can do about it

    @property
    def usable(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Option:
    """An option that a driver takes: help text, and the values it may have (none: any text)."""

    help: str
    choices: tuple[str, ...] = ()
    default: str = ""


@dataclass(frozen=True)
class Driver(ABC):
    """What a plugin registers; describing itself must be cheap."""

    name: str
    summary: str
    chips: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    debug_flags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Flags of TEFLON_DEBUG that this driver adds: name -> help; names begin with the driver's."""
    interface: tuple[int, int] = INTERFACE_VERSION

    @abstractmethod
    def probe(self, root: str = "/") -> list[Node]:
        """Return the nodes of this machine that this driver knows, usable or not.

        Fast (under 20 ms), opens nothing it does not need, never raises for a bad node.
        `root` is where `dev`, `sys`, `proc` are looked for.
        """

    @abstractmethod
    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        """Return the description of a chip: enough to compile for it.

        Raises DriverUnavailable for a chip it does not know, OptionError for a bad option.
        """

    @abstractmethod
    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        """Open a real device. Raises DriverUnavailable or DeviceError with the cure."""

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        """Open a simulated chip; drivers without a simulator leave this as it is."""
        raise DriverUnavailable(f"sim:{chip}: driver {self.name} has no simulator")
