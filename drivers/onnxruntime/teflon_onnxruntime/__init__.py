"""ONNX Runtime as a driver: what nothing else computes of an ONNX model goes to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from teflon.pipe import Context, Device, Driver, Node
from teflon.plugins import hookimpl

if TYPE_CHECKING:
    from teflon_onnxruntime.device import OnnxRuntimeDevice


class OnnxRuntimeDriver(Driver):
    """What the plugin registers; the runtime is imported with the first operation for it."""

    def probe(self, root: str = "/") -> list[Node]:
        from teflon_onnxruntime.runtimes import CURE, MISSING, found

        if found():
            return [Node("onnxruntime", self.name, "onnxruntime")]
        return [Node("onnxruntime", self.name, "onnxruntime", MISSING, CURE)]

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        return self._device(chip, options)

    def _device(self, chip: str, options: Mapping[str, str] | None) -> OnnxRuntimeDevice:
        from teflon.errors import DriverUnavailable
        from teflon_common.hosted.options import checked_options
        from teflon_onnxruntime.device import OnnxRuntimeDevice

        if chip not in self.chips:
            raise DriverUnavailable(f"onnxruntime: chip is {chip!r}, must be 'onnxruntime'")
        return OnnxRuntimeDevice(checked_options(self.name, options, self.options))

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        return self.simulate("onnxruntime", options)

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        """Open the runtime: like the processor, it is the same everywhere."""
        from teflon_common.hosted.context import HostedContext

        return HostedContext(self._device(chip, options))


@hookimpl
def teflon_driver() -> Driver:
    """Describe the driver."""
    from teflon_common.hosted.options import OPTIONS

    return OnnxRuntimeDriver(
        name="onnxruntime",
        summary="what only ONNX Runtime computes, on this computer's processor",
        chips=("onnxruntime",),
        options=OPTIONS,
        runs=("onnx",),
    )
