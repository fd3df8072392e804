"""Measure the host's time of an inference, with a kernel that executes nothing.

    python benchmarks/host_time.py [--device sim:a311d] [--runs 5]

The kernel answers every request at once. What remains is the work of the host: it converts inputs
and outputs, and makes requests. Partitions that run on the CPU do not count.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import Row, arguments, at_hand, best_ms, compiled, description, show
from teflon.compile.source import read_graph
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Program, Winsys
from teflon_common.canary import Canary
from teflon_common.context import LoadedProgram
from teflon_etnaviv import uapi as etnaviv
from teflon_etnaviv.context import EtnavivContext
from teflon_rocket import uapi as rocket
from teflon_rocket.context import RocketContext

Loaded = LoadedProgram[Any, Any]


class Null(Winsys):
    """A kernel for both families that accepts every request."""

    def __init__(self) -> None:
        self._sizes = [0]

    def ioctl(self, request: int, argument: bytearray) -> int:
        if request == rocket.CREATE_BO.request:
            size = rocket.CreateBo.unpack(argument).size
            handle, at = self._create(size)
            made = rocket.CreateBo(size=size, handle=handle, dma_address=at, offset=at)
            argument[:] = made.pack()
        elif request == etnaviv.GEM_NEW.request:
            asked = etnaviv.GemNew.unpack(argument)
            asked.handle = self._create(asked.size)[0]
            argument[:] = asked.pack()
        return 0

    def _create(self, size: int) -> tuple[int, int]:
        """Return the handle and the address of a new buffer."""
        handle, at = len(self._sizes), sum(self._sizes)
        self._sizes.append(-(-size // 4096) * 4096)
        return handle, at

    def mmap(self, offset: int, size: int) -> memoryview:
        return memoryview(bytearray(size))

    def close(self) -> None:
        """Do nothing: nothing is open."""


class Trusting(Canary):
    """A canary that never reports an output as not written: this kernel writes none."""

    def __init__(self) -> None:
        super().__init__(np.empty(0, np.uint8))


SHORT = 20
"""Factor for the number of runs of functions that take less than a millisecond."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    options = arguments(__doc__, argv)
    device = description(options.device)
    rows = [_row(name, path, device, options.runs) for name, path in at_hand(options.models)]
    show("Host time, milliseconds (best of the runs)", rows, options, "host_time")
    return 0


def _row(name: str, path: Path, device: Device, runs: int) -> Row:
    programs = compiled(read_graph(path), device)
    with idle(device) as context:
        upload = best_ms(lambda: [context.load(p).close() for p in programs], runs)[0]
        loaded = [trusting(context.load(program)) for program in programs]
        inputs = [zeros(program) for program in programs]
        pairs = list(zip(loaded, inputs, strict=True))
        enter = best_ms(lambda: _store(pairs), SHORT * runs)[0]
        leave = best_ms(lambda: _fetch(loaded), SHORT * runs)[0]
        invoke = best_ms(lambda: _invoke(context, pairs), SHORT * runs)[0]
        calls = _calls(lambda: _invoke(context, pairs))
    return {
        "model": name, "partitions": len(programs), "upload": upload, "inputs": enter,
        "outputs": leave, "requests": max(invoke - enter - leave, 0.0), "invoke": invoke,
        "calls": calls,
    }  # fmt: skip


def _store(pairs: Sequence[tuple[Loaded, list[Array]]]) -> None:
    for executable, inputs in pairs:
        executable.store(inputs)


def _fetch(loaded: Sequence[Loaded]) -> None:
    for executable in loaded:
        executable.fetch()


def _invoke(context: Context, pairs: Sequence[tuple[Loaded, list[Array]]]) -> None:
    """Run all programs, as a model does: free each output before the next program runs."""
    for executable, inputs in pairs:
        context.invoke(executable, inputs)


def _calls(run: Callable[[], object]) -> int:
    """Return how many Python functions a call enters."""
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


def trusting(executable: Executable) -> Loaded:
    """Make an executable accept outputs that the kernel did not write."""
    assert isinstance(executable, LoadedProgram)
    loaded: Any = executable
    loaded.canaries = [Trusting() for _ in executable.program.output_ports]
    return executable


def idle(device: Device) -> Context:
    """Return a context of a kernel that computes nothing."""
    make = RocketContext if device.driver == "rocket" else EtnavivContext
    return make(device, Null())


def zeros(program: Program) -> list[Array]:
    """Return zeros as inputs of a program."""
    return [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs]


if __name__ == "__main__":
    sys.exit(main())
