"""The description of a driver: the chips of one family, and the devices of this machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from teflon.errors import DriverUnavailable

if TYPE_CHECKING:
    from teflon.pipe.context import Context
    from teflon.pipe.device import Data, Device
    from teflon.pipe.kernel import VirtualNode

INTERFACE_VERSION = (1, 4)
"""(major, minor). Plugins written for another major version, or a higher minor one, are refused."""


@dataclass(frozen=True)
class Node:
    """A device node that a driver found; it is usable if `problem` is empty."""

    path: str  # "/dev/accel/accel0"
    driver: str  # the driver's name
    chip: str = ""  # "rk3588"; empty if it is unknown
    problem: str = ""  # why it cannot be used: one sentence
    cure: str = ""  # what the user can do about it

    @property
    def usable(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Option:
    """An option of a driver. Without `choices` it may have any text as value.

    path: the value is the path of a file, so that a number is a mistake. Since 1.4.
    """

    help: str
    choices: tuple[str, ...] = ()
    default: str = ""
    path: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Driver(ABC):
    """The description of a driver, which its plugin returns. To make one must be cheap."""

    name: str
    summary: str
    chips: tuple[str, ...]
    options: Mapping[str, Option] = field(default_factory=dict)
    debug_flags: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Flags of TEFLON_DEBUG that this driver adds: name -> help. Names begin with the driver's."""
    interface: tuple[int, int] = INTERFACE_VERSION
    runs: tuple[str, ...] = field(default=(), kw_only=True)
    """Model formats whose operations this driver hands to another runtime on this computer, cut out
    of the file. Such a driver is no NPU, so `auto` never means it; it runs what is left of a model
    when the NPU and the CPU driver have taken what they know. Since 1.3.
    """

    @abstractmethod
    def probe(self, root: str = "/") -> list[Node]:
        """Return the nodes of this machine that belong to this driver, usable or not.

        It must take less than 20 ms, open no more files than necessary, and not raise for a bad
        node. `root` is the folder that contains `dev`, `sys` and `proc`.
        """

    @abstractmethod
    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        """Return the description of a chip, which is enough to compile for it.

        Raises DriverUnavailable for an unknown chip, OptionError for a bad option.
        """

    @abstractmethod
    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        """Open a real device. Raises DriverUnavailable or DeviceError; the text has the cure."""

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        """Open a simulated chip. Drivers without a simulator do not implement this."""
        raise DriverUnavailable(f"sim:{chip}: driver {self.name} has no simulator")

    def virtual_node(self, chip: str, options: Mapping[str, str] | None = None) -> VirtualNode:
        """Return a device node with a simulated chip behind it, for other programs.

        Drivers without a simulated kernel do not implement this. Raises DriverUnavailable for an
        unknown chip, OptionError for a bad option. Since 1.4.
        """
        raise DriverUnavailable(f"{chip}: driver {self.name} has no kernel for a virtual board")

    def tensor_shapes(
        self, model: Data, inputs: Mapping[int, Sequence[int]]
    ) -> Mapping[int, tuple[int, ...]]:
        """Return the shapes that tensors of a file get when inputs have these shapes.

        Keys are the numbers of tensors. Tensors whose shape is known only when they are computed
        are left out. Drivers with `runs` implement this. Raises ModelError for shapes that the
        model cannot take, DriverUnavailable without a runtime. Since 1.3.
        """
        raise DriverUnavailable(f"driver {self.name}: cannot tell the shapes of a model's tensors")
