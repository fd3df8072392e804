"""TFLite as a driver: what nothing else computes goes to an installed TFLite runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from teflon.pipe import Context, Data, Device, Driver, Node
from teflon.plugins import hookimpl

if TYPE_CHECKING:
    from teflon_tflite.device import TfliteDevice


class TfliteDriver(Driver):
    """What the plugin registers; runtimes are imported with the first operation for one."""

    def probe(self, root: str = "/") -> list[Node]:
        from teflon_tflite.runtimes import CURE, MISSING, found

        if found():
            return [Node("tflite", self.name, "tflite")]
        return [Node("tflite", self.name, "tflite", MISSING, CURE)]

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        return self._device(chip, options)

    def _device(self, chip: str, options: Mapping[str, str] | None) -> TfliteDevice:
        from teflon.errors import DriverUnavailable
        from teflon_common.hosted.options import checked_options
        from teflon_tflite.device import TfliteDevice

        if chip not in self.chips:
            raise DriverUnavailable(f"tflite: chip is {chip!r}, must be 'tflite'")
        return TfliteDevice(checked_options(self.name, options, self.options))

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        from teflon_common.hosted.context import HostedContext

        return HostedContext(self._device("tflite", options))

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        """Open the runtime: like the processor, it is the same everywhere."""
        from teflon_common.hosted.context import HostedContext

        return HostedContext(self._device(chip, options))

    def tensor_shapes(
        self, model: Data, inputs: Mapping[int, Sequence[int]]
    ) -> Mapping[int, tuple[int, ...]]:
        from teflon_tflite.shapes import tensor_shapes

        return tensor_shapes(model, inputs)


@hookimpl
def teflon_driver() -> Driver:
    """Describe the driver."""
    from teflon_common.hosted.options import OPTIONS

    return TfliteDriver(
        name="tflite",
        summary="what only TFLite computes, in an installed TFLite runtime",
        chips=("tflite",),
        options=OPTIONS,
        runs=("tflite",),
    )
