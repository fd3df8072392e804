"""A plugin that needs a package which does not exist."""

from __future__ import annotations

from collections.abc import Mapping

from teflon.errors import DriverUnavailable
from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import hookimpl


class BrokenDriver(Driver):
    """Knows a chip in name only."""

    def probe(self, root: str = "/") -> list[Node]:
        return []

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        raise DriverUnavailable(f"{self.name}: chip {chip} cannot be compiled for")

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        raise DriverUnavailable(f"{node.path}: cannot be opened")


@hookimpl
def teflon_driver() -> Driver:
    """Describe the driver."""
    return BrokenDriver("broken_requirement", "lacks a package", ("broken1",))
