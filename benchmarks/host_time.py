"""Time on the host per inference: requests are answered at once, nothing is executed.

    python benchmarks/host_time.py [--runs 5]

What is left is what a real NPU's host does: layouts of inputs and outputs, requests to the kernel;
partitions of the CPU are not counted. Rocket only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from common import Row, arguments, at_hand, best_ms, compiled, description, show
from teflon.ir.types import Array
from teflon.loading import load_graph
from teflon.pipe import Context, Device, Executable, Program, Winsys
from teflon_rocket import transfer, uapi
from teflon_rocket.canary import Canary
from teflon_rocket.context import RocketContext, RocketExecutable

CHIP = "rk3588"


class Null(Winsys):
    """A kernel that says yes to everything."""

    def __init__(self) -> None:
        self._sizes = [0]

    def ioctl(self, request: int, argument: bytearray) -> int:
        if request == uapi.CREATE_BO.request:
            handle, at = len(self._sizes), sum(self._sizes)
            size = uapi.CreateBo.unpack(argument).size
            self._sizes.append(-(-size // 4096) * 4096)
            argument[:] = uapi.CreateBo(size=size, handle=handle, dma_address=at, offset=at).pack()
        return 0

    def mmap(self, offset: int, size: int) -> memoryview:
        return memoryview(bytearray(size))

    def close(self) -> None:
        """Nothing is open."""


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
        enter = best_ms(lambda: _store(pairs), runs)[0]
        leave = best_ms(lambda: _fetch(loaded), runs)[0]
        invoke = best_ms(lambda: [context.invoke(e, x) for e, x in pairs], runs)[0]
        calls = _calls(lambda: [context.invoke(e, x) for e, x in pairs])
    return {
        "model": name, "partitions": len(programs), "upload": upload, "inputs": enter,
        "outputs": leave, "requests": max(invoke - enter - leave, 0.0), "invoke": invoke,
        "calls": calls,
    }  # fmt: skip


def _store(pairs: Sequence[tuple[RocketExecutable, list[Array]]]) -> None:
    for executable, inputs in pairs:
        transfer.store(executable, inputs)


def _fetch(loaded: Sequence[RocketExecutable]) -> None:
    for executable in loaded:
        for port in executable.program.output_ports:
            port.fetch(executable.buffers[port.buffer].memory)


def _calls(run: Callable[[], object]) -> int:
    """Return how many functions of Python a call enters."""
    count = 0

    def seen(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(seen)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def _trusting(executable: Executable) -> RocketExecutable:
    """Let an executable believe that its outputs were written."""
    assert isinstance(executable, RocketExecutable)
    ports = executable.program.output_ports
    executable.canaries = [Trusting(p, executable.buffers[p.buffer].memory) for p in ports]
    return executable


def _idle(device: Device) -> Context:
    return RocketContext(device, Null())


def _zeros(program: Program) -> list[Array]:
    return [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs]


if __name__ == "__main__":
    sys.exit(main())
