"""Run programs with the interpreter of the IR, at once and in the calling thread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from teflon.errors import DeviceError, ProgramError
from teflon.ir.interpreter import run
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Fence, Program
from teflon_common.processor import DoneFence, no_memory
from teflon_cpu.device import CHIP, CpuDevice, CpuProgram


class CpuExecutable(Executable):
    """A program that is ready to run; it holds the graph and nothing else."""

    def __init__(self, program: CpuProgram) -> None:
        self.program: Program = program
        self.graph = program.graph
        self.closed = False

    def close(self) -> None:
        self.closed = True


class CpuContext(Context):
    """Runs programs. Graphs are immutable, so any number of threads may do so at the same time."""

    def __init__(self) -> None:
        self.device: Device = CpuDevice()
        self._closed = False

    def load(self, program: Program) -> Executable:
        if not isinstance(program, CpuProgram):
            raise ProgramError(f"cpu: program is for {program.chip!r}, must be for {CHIP!r}")
        return CpuExecutable(program)

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        if not isinstance(executable, CpuExecutable):
            raise ProgramError("cpu: executable is another driver's, must be loaded here")
        if self._closed or executable.closed:
            raise DeviceError("cpu: is closed, must be open")
        graph = executable.graph
        try:
            outputs = run(graph, list(inputs))
            return DoneFence([_owned(a, inputs) for a in outputs])
        except MemoryError as error:
            raise no_memory("cpu") from error

    def close(self) -> None:
        self._closed = True


def _owned(array: Array, inputs: Sequence[Array]) -> Array:
    """Return an array that shares nothing with constants or inputs."""
    lent = any(array is given for given in inputs)
    flags = array.flags
    return array if flags.owndata and flags.writeable and not lent else np.array(array)
