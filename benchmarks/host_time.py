"""Time on the host per inference: the fake kernel takes the jobs and computes nothing.

    python benchmarks/host_time.py [--runs 5]

What is left is what a real NPU's host does: layouts of inputs and outputs, requests to the kernel;
partitions of the CPU are not counted. Rocket only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common import Row, arguments, at_hand, best_ms, compiled, description, show
from teflon.loading import load_graph
from teflon.pipe import Context, Device, Executable, Program
from teflon_common.fake_drm import FakeWinsys
from teflon_common.memory import DeviceMemory
from teflon_rocket.canary import Canary
from teflon_rocket.chips import CHIPS
from teflon_rocket.context import RocketContext, RocketExecutable
from teflon_rocket.simulator.kernel import RocketKernel

CHIP = "rk3588"


class Idle:
    """A machine that finishes every task at once."""

    def __init__(self, _memory: DeviceMemory) -> None:
        pass

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        """Do nothing."""


class Trusting(Canary):
    """Takes outputs for written that nobody wrote."""

    def alive(self) -> bool:
        return False


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    device = description(CHIP)
    rows = [_row(name, path, device, options.runs) for name, path in at_hand(options.models)]
    show("Host time, milliseconds (best of the runs)", rows, options, "host_time")
    return 0


def _row(name: str, path: Path, device: Device, runs: int) -> Row:
    programs = compiled(load_graph(path), device)
    with _idle(device) as context:
        upload = best_ms(lambda: [context.load(p).close() for p in programs], runs)[0]
        loaded = [_trusting(context.load(program)) for program in programs]
        inputs = [_zeros(program) for program in programs]
        pairs = list(zip(loaded, inputs, strict=True))
        invoke = best_ms(lambda: [context.invoke(e, x) for e, x in pairs], runs)[0]
    return {"model": name, "partitions": len(programs), "upload": upload, "invoke": invoke}


def _trusting(executable: Executable) -> Executable:
    """Let an executable believe that its outputs were written."""
    assert isinstance(executable, RocketExecutable)
    ports = executable.program.output_ports
    executable.canaries = [Trusting(p, executable.buffers[p.buffer].memory) for p in ports]
    return executable


def _idle(device: Device) -> Context:
    return RocketContext(device, FakeWinsys(RocketKernel(CHIPS[CHIP], machine=Idle)))


def _zeros(program: Program) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    return [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs]


if __name__ == "__main__":
    sys.exit(main())
