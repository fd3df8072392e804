"""The CPU driver: the reference, bit-equal to TFLite's reference kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from teflon.errors import DriverUnavailable, OptionError
from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import hookimpl


@dataclass(frozen=True)
class CpuDriver(Driver):
    """Runs every operation of the IR on this computer, which is its only chip."""

    def probe(self, root: str = "/") -> list[Node]:
        return [Node("cpu", self.name, "cpu")]

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        from teflon_cpu.device import CpuDevice

        if chip not in self.chips:
            raise DriverUnavailable(f"cpu: chip is {chip!r}, must be 'cpu'")
        for name in options or {}:
            raise OptionError(f"cpu: there is no option {name!r}, it takes none")
        return CpuDevice()

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        return self.simulate("cpu", options)

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        from teflon_cpu.context import CpuContext

        self.device(chip, options)
        return CpuContext()


@hookimpl
def teflon_driver() -> Driver:
    """Return the driver's description."""
    return CpuDriver("cpu", "the reference arithmetic, on this computer's processor", ("cpu",))
