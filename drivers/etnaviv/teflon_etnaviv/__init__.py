"""Etnaviv: the VIPNano NPUs of VeriSilicon, in the A311D, the S905D3 and the i.MX8M Plus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from teflon.pipe import Context, Device, Driver, Node, Option, Recorder, VirtualNode
from teflon.plugins import hookimpl

if TYPE_CHECKING:
    from teflon.ir.types import Array

OPTIONS = {
    "strategy": Option(
        "how operations are programmed: `exact` computes what the model says, `mesa` is byte for "
        "byte what Mesa 26.2.6 submits",
        ("exact", "mesa"), "exact",
    ),
    "s905d3-huffman": Option(
        "S905D3: Huffman coded coefficients as on V8, with the header that this chip is said to "
        "want (nobody has confirmed it on silicon)",
        ("off", "on"), "off",
    ),
    "v8-image-caching": Option(
        "chips with V8 coefficients: input tiles stay in the NPU's memory where they fit (nobody "
        "has confirmed it on silicon)",
        ("off", "on"), "off",
    ),
    "arena": Option(
        "strategy exact: tensors that live at different times share memory",
        ("on", "off"), "on",
    ),
    "perchannel": Option(
        "strategy exact, weights with a scale for each output channel: jobs that keep every result "
        "within one step (`exact`), few jobs that lose little (`balanced`), one job (`merged`)",
        ("balanced", "exact", "merged"), "balanced",
    ),
    "record": Option(
        "file (.npz) that gets a recording of everything that is submitted", path=True
    ),
}  # fmt: skip

DEBUG_FLAGS = {
    "etnaviv-jobs": "what the NN and TP cores are given, in the form of Mesa's ml_msgs",
}

SECONDS = 5.0
"""How long an inference may take on a real device before it counts as lost, as in Mesa."""


class EtnavivDriver(Driver):
    """The plugin's driver: imports compilers, simulators and kernels only when it needs them."""

    def probe(self, root: str = "/") -> list[Node]:
        from teflon_etnaviv.probe import probe

        return probe(root)

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        from teflon_etnaviv.device import EtnavivDevice

        return EtnavivDevice(chip, options)

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        from teflon.errors import DeviceError, DriverUnavailable
        from teflon_common.drm import DrmWinsys
        from teflon_etnaviv.chips import Unusable, npu_pipe
        from teflon_etnaviv.context import EtnavivContext, identities

        if not node.usable:
            raise DriverUnavailable(f"{node.path}: {node.problem} ({node.cure})")
        try:
            winsys = DrmWinsys(node.path)
        except OSError as error:
            raise DriverUnavailable(
                f"{node.path}: cannot be opened: {error.strerror} (`teflon devices` tells more)"
            ) from error
        try:
            found = npu_pipe(identities(winsys))
        except DeviceError as error:
            winsys.close()
            raise DriverUnavailable(f"{node.path}: does not answer: {error}") from error
        if isinstance(found, Unusable):
            winsys.close()
            raise DriverUnavailable(f"{node.path}: {found.problem} ({found.cure})")
        pipe, chip = found
        device = self.device(chip.name, options)
        record, variants = _recording(options)
        try:
            return EtnavivContext(device, winsys, pipe, SECONDS, record, variants)
        except BaseException:
            winsys.close()
            raise

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        from teflon_common.fake_drm import FakeWinsys
        from teflon_etnaviv.context import EtnavivContext
        from teflon_etnaviv.device import EtnavivDevice
        from teflon_etnaviv.simulator.kernel import EtnavivKernel

        device = EtnavivDevice(chip, options)
        winsys = FakeWinsys(EtnavivKernel(device.limits, strict=True))
        record, variants = _recording(options)
        return EtnavivContext(device, winsys, record=record, variants=variants)

    def virtual_node(self, chip: str, options: Mapping[str, str] | None = None) -> VirtualNode:
        from teflon_common.served import ServedKernel
        from teflon_etnaviv.chips import CHIPS, GPU, Identity
        from teflon_etnaviv.chips import chip as find
        from teflon_etnaviv.device import EtnavivDevice
        from teflon_etnaviv.dialect import EtnavivDialect
        from teflon_etnaviv.simulator.kernel import EtnavivKernel

        cores: tuple[Identity, ...] | None = (GPU,) if chip == "gpu" else None
        row = CHIPS[0] if cores else find(chip)
        if not cores and not row.missing:  # options change what the chip is
            row = EtnavivDevice(chip, options).limits
        kernel = EtnavivKernel(row, cores=cores)
        return VirtualNode(
            "render", ServedKernel(kernel, EtnavivDialect, chip), self.name, self.name
        )


def _recording(options: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    """Return the file to record into, and the options that go into the recording."""
    given = dict(options or {})
    return given.pop("record", ""), given


class EtnavivRecorder(Recorder):
    """Shows recordings of this driver, makes them of traces, replays them on the simulator."""

    def show(self, path: str, whole: bool = False) -> str:
        from teflon_common import recording
        from teflon_etnaviv.dialect import EtnavivDialect

        return recording.show(recording.read(path), EtnavivDialect(), self.driver, whole)

    def from_trace(self, path: str) -> list[bytes]:
        from teflon_common import interception
        from teflon_etnaviv.dialect import EtnavivDialect

        found = interception.recordings(
            path, lambda driver: EtnavivDialect() if driver == self.driver else None
        )
        return [recording.to_bytes() for recording in found]

    def replay(self, path: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        from teflon_common import recording
        from teflon_common.memory import DeviceMemory
        from teflon_etnaviv.chips import Chip
        from teflon_etnaviv.replay import replay
        from teflon_etnaviv.simulator.machine import Machine

        def run(
            chip: Chip, memory: DeviceMemory, stream: bytes, flags: Mapping[int, int], where: str
        ) -> None:
            Machine(chip, memory).run_stream(stream, flags, where)

        return replay(recording.read(path), run, inputs)


@hookimpl
def teflon_driver() -> Driver:
    """Describe the driver."""
    return EtnavivDriver(
        name="etnaviv",
        summary="VIPNano NPUs (A311D, S905D3, i.MX8M Plus), kernel driver etnaviv",
        chips=("a311d", "s905d3", "imx8mp"),
        options=OPTIONS,
        debug_flags=DEBUG_FLAGS,
    )


@hookimpl
def teflon_recorder() -> Recorder:
    """Describe what reads this driver's recordings."""
    return EtnavivRecorder("etnaviv")
