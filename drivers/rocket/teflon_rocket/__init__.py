"""Rocket: the NPU of the Rockchip RK3588."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from teflon.pipe import Context, Device, Driver, Node, Option, Recorder, VirtualNode
from teflon.plugins import hookimpl

if TYPE_CHECKING:
    from teflon.ir.types import Array
    from teflon_common.fake_drm import FakeKernel

OPTIONS = {
    "strategy": Option(
        "how operations are programmed: `exact` computes what the model says, `mesa` is byte for "
        "byte what Mesa 26.2.6 submits",
        ("exact", "mesa"), "exact",
    ),
    "witnessed": Option(
        "which register values strategy `exact` may write: `any` that the documents allow, or "
        "`only` those that a recording of Mesa or a list of the vendor's compiler has",
        ("any", "only"), "any",
    ),
    "pooling": Option(
        "which units pool under strategy `exact`: the `array` of the convolutions, whose end every "
        "kernel notices, or the `ppu`, for a kernel that waits for its interrupts as well (that of "
        "mainline Linux does not, and gives up)",
        ("array", "ppu"), "array",
    ),
    "simulate": Option(
        "what a simulated chip does: `all`, or keep its modelled `time` only (its outputs mean "
        "nothing)",
        ("all", "time"), "all",
    ),
    "memory": Option(
        "modelled time of a simulated chip: memory is as fast for each core as for one alone "
        "(`free`), or all cores wait for one memory (`shared`)",
        ("free", "shared"), "free",
    ),
    "record": Option(
        "file (.npz) that gets a recording of everything that is submitted", path=True
    ),
}  # fmt: skip

DEBUG_FLAGS = {
    "rocket-tasks": "how operations were split to fit the RK3588's convolution buffer",
}

SECONDS = 10.0
"""How long a real device may be busy with others before an inference counts as lost."""


class RocketDriver(Driver):
    """What the plugin registers; compiler and simulator are imported when they are first used."""

    def probe(self, root: str = "/") -> list[Node]:
        from teflon_rocket.probe import probe

        return probe(root)

    def device(self, chip: str, options: Mapping[str, str] | None = None) -> Device:
        from teflon_rocket.device import RocketDevice

        return RocketDevice(chip, options)

    def open(self, node: Node, options: Mapping[str, str] | None = None) -> Context:
        from teflon.errors import DriverUnavailable
        from teflon_common.drm import DrmWinsys, version
        from teflon_rocket.context import RocketContext

        if not node.usable:
            raise DriverUnavailable(f"{node.path}: {node.problem} ({node.cure})")
        device = self.device(node.chip or self.chips[0], options)
        winsys: DrmWinsys | None = None
        try:
            winsys = DrmWinsys(node.path)
            name = version(winsys).name
        except OSError as error:
            if winsys is not None:
                winsys.close()
            raise DriverUnavailable(
                f"{node.path}: cannot be opened: {error.strerror} (`teflon devices` tells more)"
            ) from error
        if name != self.name:
            winsys.close()
            raise DriverUnavailable(f"{node.path}: is driven by {name!r}, must be 'rocket'")
        return RocketContext(device, winsys, SECONDS, (options or {}).get("record", ""))

    def simulate(self, chip: str, options: Mapping[str, str] | None = None) -> Context:
        from teflon_common.fake_drm import FakeWinsys
        from teflon_rocket.context import RocketContext

        given, device = options or {}, self.device(chip, options)
        winsys = FakeWinsys(_kernel(chip, given, strict=True))
        return RocketContext(device, winsys, record=given.get("record", ""))

    def virtual_node(self, chip: str, options: Mapping[str, str] | None = None) -> VirtualNode:
        from teflon_common.served import ServedKernel
        from teflon_rocket.dialect import RocketDialect
        from teflon_rocket.probe import FACADE, device_tree

        self.device(chip, options)  # refuses unknown chips and options
        kernel = ServedKernel(_kernel(chip, options or {}, strict=False), RocketDialect, chip)
        return VirtualNode("accel", kernel, FACADE, files=device_tree(chip))


def _kernel(chip: str, options: Mapping[str, str], *, strict: bool) -> FakeKernel:
    """Return a kernel that drives a simulated chip.

    strict: all misuse is refused; else a program that breaks a rule runs as the hardware would.
    """
    from functools import partial

    from teflon_rocket.chips import CHIPS
    from teflon_rocket.simulator.kernel import RocketKernel
    from teflon_rocket.simulator.machine import Machine
    from teflon_rocket.simulator.policy import LENIENT, STRICT
    from teflon_rocket.simulator.timeonly import TimeOnly
    from teflon_rocket.uapi import ALL_UNITS, WAITED

    found = CHIPS[chip]
    sharing = float(found.cores) if options.get("memory") == "shared" else 1.0
    waited = ALL_UNITS if options.get("pooling") == "ppu" else WAITED
    common = partial(RocketKernel, found, sharing=sharing, waited=waited, strict=strict)
    if options.get("simulate") == "time":
        return common(machine=partial(TimeOnly, found), log_length=0)
    return common(machine=partial(Machine, found, policy=STRICT if strict else LENIENT))


class RocketRecorder(Recorder):
    """Recordings of this driver: shown, made of traces, replayed on the simulator."""

    def show(self, path: str, whole: bool = False) -> str:
        from teflon_common import recording
        from teflon_rocket.dialect import RocketDialect

        return recording.show(recording.read(path), RocketDialect(), self.driver, whole)

    def from_trace(self, path: str) -> list[bytes]:
        from teflon_common import interception
        from teflon_rocket.dialect import RocketDialect

        found = interception.recordings(
            path, lambda driver: RocketDialect() if driver == self.driver else None
        )
        return [recording.to_bytes() for recording in found]

    def replay(self, path: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        from teflon_common import recording
        from teflon_rocket.chips import CHIPS
        from teflon_rocket.replay import replay
        from teflon_rocket.simulator.kernel import RocketKernel
        from teflon_rocket.simulator.policy import LENIENT

        # as on hardware, mistakes included, with buffers at their recorded addresses
        kernel = RocketKernel(CHIPS["rk3588"], policy=LENIENT, guard=0)
        return replay(recording.read(path), kernel, inputs).everything()


@hookimpl
def teflon_driver() -> Driver:
    """Describe the driver."""
    return RocketDriver(
        name="rocket",
        summary="NPU of the Rockchip RK3588, kernel driver rocket",
        chips=("rk3588",),
        options=OPTIONS,
        debug_flags=DEBUG_FLAGS,
    )


@hookimpl
def teflon_recorder() -> Recorder:
    """Describe what reads this driver's recordings."""
    return RocketRecorder("rocket")
