"""The driver plugin of the ABACUS, an NPU that does not exist."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from teflon.errors import DriverUnavailable, OptionError
from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import hookimpl

ROOT = "ABACUS_ROOT"
"""The variable that names the folder to search for nodes, in place of `/`."""


class AbacusDriver(Driver):
    """What the plugin registers. Slow imports are inside the methods."""

    def probe(self, root: str = "/") -> list[Node]:
        """Return the nodes `dev/abacus0`, `dev/abacus1`, ..."""
        base = Path(os.environ.get(ROOT, root) if root == "/" else root)
        return [self._node(path) for path in sorted(base.glob("dev/abacus[0-9]*"))]

    def _node(self, path: Path) -> Node:
        if not path.is_socket():
            return Node(str(path), self.name, "abacus1", "is no ABACUS", "unload what made it")
        if not os.access(path, os.R_OK | os.W_OK):
            return Node(
                str(path), self.name, "abacus1", "may not be opened by this user",
                "add the user to the node's group",
            )  # fmt: skip
        return Node(str(path), self.name, "abacus1")

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        """Return the chip's description."""
        from teflon_abacus.device import AbacusDevice

        if chip not in self.chips:
            raise DriverUnavailable(f"abacus: chip is {chip!r}, must be 'abacus1'")
        for name in options or {}:
            raise OptionError(f"abacus: there is no option {name!r}, it takes none")
        return AbacusDevice()

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        """Open a node."""
        from teflon_abacus import machine
        from teflon_abacus.context import AbacusContext

        self.device("abacus1", options)
        try:
            return AbacusContext(machine.Node(node.path))
        except OSError as error:
            raise DriverUnavailable(f"{node.path}: cannot be opened: {error.strerror}") from error

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        """Open a chip in this process."""
        from teflon_abacus.context import AbacusContext
        from teflon_abacus.machine import Machine

        self.device(chip, options)
        return AbacusContext(Machine())


@hookimpl
def teflon_driver() -> Driver:
    """Describe the driver."""
    return AbacusDriver("abacus", "the ABACUS, an NPU that does not exist", ("abacus1",))
