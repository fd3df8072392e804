"""The common part of all drivers' contexts: load, submit, wait and close, from several threads.

A driver's context is a `NodeContext` whose executables are `LoadedProgram`s. A `LoadedProgram` puts
inputs into buffers, starts the device, waits for it and reads the outputs. It has one set of
buffers, so `submit` first finishes the previous inference of the same program, whose fence keeps
the outputs. Inferences of different programs may overlap.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from teflon import forks, interrupts, trace
from teflon.errors import (
    DeviceError,
    DeviceTimeout,
    OptionError,
    ProgramError,
    SimulatorFault,
    TeflonError,
)
from teflon.ir.types import Array
from teflon.pipe import Context, Device, Executable, Fence, Program, Timeline, Winsys
from teflon_common.program import BufferProgram, port_to_json
from teflon_common.recorder import Recorder, finish
from teflon_common.results import Results

P = TypeVar("P", bound=Program)
C = TypeVar("C", bound=BufferProgram)
B = TypeVar("B", bound="KernelBuffer")
E = TypeVar("E", bound="LoadedProgram[Any, Any]")
T = TypeVar("T")

FOREVER_NS = (1 << 31) * 10**9
"""A deadline on the monotonic clock that never comes; it fits into the structs of all kernels."""


def require_program(program: Program, kind: type[P], driver: str, chip: str) -> P:
    """Return a program of this driver and chip. Raises ProgramError for any other."""
    if not isinstance(program, kind):
        raise ProgramError(
            f"program: driver is {program.driver!r}, must be {driver!r} (compile it for it)"
        )
    if program.chip != chip:
        raise ProgramError(
            f"program: chip is {program.chip!r}, must be {chip!r} (compile the model for this chip)"
        )
    return program


def check_inputs(program: Program, inputs: Sequence[Array]) -> None:
    """Raise OptionError for arrays that do not fit the program's inputs."""
    if len(inputs) != len(program.inputs):
        raise OptionError(
            f"program: {len(inputs)} inputs were given, must be {len(program.inputs)}"
        )
    for number, (array, wanted) in enumerate(zip(inputs, program.inputs, strict=True)):
        if array.shape != wanted.shape or array.dtype != wanted.dtype.numpy:
            raise OptionError(
                f"program: input {number} is {array.dtype}{list(array.shape)}, must be "
                f"{wanted.dtype.numpy}{list(wanted.shape)}"
            )


def close_all(close: Callable[[T], None], things: Iterable[T]) -> None:
    """Close all things, even if some raise; then raise the first error."""
    first: TeflonError | None = None
    for thing in things:
        try:
            close(thing)
        except TeflonError as error:
            first = first or error
    if first is not None:
        raise first


class KernelBuffer(Protocol):
    """A buffer of the kernel; it is mapped until it is closed."""

    handle: int
    memory: npt.NDArray[np.uint8]

    def close(self) -> None:
        """Drop the handle. Raises DeviceError."""


class LoadedProgram(Executable, Generic[C, B]):
    """A program with its buffers; `lock` guards them, `pending` is the running inference.

    number: the program's number in its context, from 0.
    """

    def __init__(self, context: NodeContext[C, Any], program: C, number: int) -> None:
        """Create the buffers and `upload`; after an error all buffers are freed.

        Raises DeviceError, ProgramError.
        """
        self.program: C = program
        self.context, self.number = context, number
        self.lock = forks.lock()
        self.pending: Inference | None = None
        self.closed = False
        self.buffers: list[B] = []
        self.results = [Results(port.type) for port in program.output_ports]
        try:
            for buffer in program.buffers:
                self.buffers.append(self.create(buffer.size))
            self.upload()
        except TeflonError:
            with contextlib.suppress(TeflonError):  # the first error is the one to raise
                self.free()
            raise
        if isinstance(context.winsys, Recorder):
            self._note_ports(context.winsys)

    def _note_ports(self, recorder: Recorder) -> None:
        """Add the places of the tensors to a recording."""
        program = self.program
        for kind, ports in (("input", program.input_ports), ("output", program.output_ports)):
            for port in ports:
                recorder.note_port(
                    handle=self.buffers[port.buffer].handle, kind=kind,
                    name=program.name_of(port), port=port_to_json(port),
                )  # fmt: skip

    @property
    def seconds(self) -> float:
        """The seconds that an inference may take, in addition to the limit of the context."""
        return 0.0

    @abstractmethod
    def create(self, size: int) -> B:
        """Return a new buffer. Raises DeviceError."""

    @abstractmethod
    def upload(self) -> None:
        """Fill the buffers that have content, including the addresses in it.

        Raises DeviceError, ProgramError.
        """

    @abstractmethod
    def store(self, inputs: Sequence[Array]) -> None:
        """Write the inputs into their buffers. Raises DeviceError."""

    @abstractmethod
    def start(self) -> None:
        """Submit an inference to the device. If that fails, set `pending` to None.

        Raises DeviceError.
        """

    @abstractmethod
    def await_outputs(self, deadline_ns: int) -> None:
        """Wait for the device. Raises DeviceTimeout, DeviceError, SimulatorFault."""

    @abstractmethod
    def fetch(self) -> list[Array]:
        """Return the outputs as new arrays. Raises DeviceError if the device did not write them."""

    def free(self) -> None:
        """Close all buffers, then raise the first error, if any."""
        buffers, self.buffers = self.buffers, []
        close_all(lambda buffer: buffer.close(), reversed(buffers))

    def close(self) -> None:
        """Finish the running inference and free the buffers. Raises DeviceError, SimulatorFault."""
        if os.getpid() != self.context.owner:
            return  # a forked child must not free the buffers of its parent
        with self.lock:
            if self.closed:
                return
            self.closed = True
            self.context.forget(self)
            try:
                if self.pending is not None:
                    self.pending.complete(self.context.deadline(self))
            finally:
                self.free()


class Inference(Fence):
    """One inference; when it is complete it has its outputs or its error.

    Any thread that holds the lock of the executable may complete it.
    """

    def __init__(self, executable: LoadedProgram[Any, Any]) -> None:
        self._executable = executable
        self._outputs: list[Array] | None = None
        self._error: TeflonError | None = None

    def complete(self, deadline_ns: int) -> None:
        """Wait for the device and store outputs or error; the caller must hold the lock.

        Raises DeviceTimeout if the inference has not ended at the deadline; `wait` raises any other
        error.
        """
        executable = self._executable
        try:
            with trace.span("wait", program=executable.number):
                executable.await_outputs(deadline_ns)
            with trace.span("convert outputs", program=executable.number):
                self._outputs = executable.fetch()
        except DeviceTimeout:
            raise
        except SimulatorFault as fault:
            self._error = SimulatorFault(f"{fault}{executable.program.caveat}")
            self._error.__cause__ = fault
        except TeflonError as error:
            self._error = error
        executable.pending = None

    @property
    def _complete(self) -> bool:
        return self._outputs is not None or self._error is not None

    def done(self) -> bool:
        if self._complete:
            return True
        self._executable.context.check_process()
        with interrupts.taken(self._executable.lock, 0) as free:
            if not free:
                return False  # another thread waits for this or another inference of the program
            try:
                if not self._complete:
                    self.complete(1)  # a deadline in the past: do not wait
            except DeviceTimeout:
                return False
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        if not self._complete:
            self._wait(timeout)
        if self._error is not None:
            raise self._error
        assert self._outputs is not None
        return self._outputs

    def _wait(self, timeout: float | None) -> None:
        executable = self._executable
        executable.context.check_process()
        deadline = executable.context.deadline(executable)
        if timeout is not None:
            deadline = time.monotonic_ns() + int(timeout * 1e9)
        with interrupts.taken(executable.lock, timeout) as free:
            if not free:
                raise DeviceTimeout(
                    f"{executable.program.driver}: an inference is not done after {timeout:g} s,"
                    " must be done in that time (wait longer, or again)"
                )
            if not self._complete:
                self.complete(deadline)


class NodeContext(Context, Generic[C, E]):
    """The context of one open file of a node; `owner` is the process that opened it."""

    def __init__(
        self,
        device: Device,
        winsys: Winsys,
        kind: type[C],
        seconds: float | None = None,
        record: str = "",
    ) -> None:
        """kind: the class of the driver's programs. seconds: the limit of an inference; None: no
        limit. record: the file for the recording, if `winsys` comes from `recorded`.
        """
        self.device, self.winsys = device, winsys
        self.owner = os.getpid()
        self._finalizer = weakref.finalize(self, finish, winsys, record, self.owner)
        # at the end of the program the kernel closes the node; daemon threads may still use it
        self._finalizer.atexit = bool(record)
        self._kind, self._seconds = kind, seconds
        self._lock = forks.lock()
        self._executables: list[E] = []
        self._numbers = itertools.count()
        self._closed = False

    @property
    def timeline(self) -> Timeline | None:
        return self.winsys.timeline

    @abstractmethod
    def executable(self, program: C, number: int) -> E:
        """Load a program: create its buffers. Raises DeviceError, ProgramError."""

    def deadline(self, executable: LoadedProgram[Any, Any]) -> int:
        """Return the deadline of an inference that starts now, on the monotonic clock, in ns."""
        if self._seconds is None:
            return FOREVER_NS
        return time.monotonic_ns() + int((self._seconds + executable.seconds) * 1e9)

    def load(self, program: Program) -> E:
        wanted = require_program(program, self._kind, self.device.driver, self.device.chip)
        self.check_process()
        self._check_open()
        executable = self.executable(wanted, next(self._numbers))
        with self._lock:
            self._executables.append(executable)
        return executable

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Inference:
        """Start an inference, after the previous one of the same executable has ended."""
        if not isinstance(executable, LoadedProgram) or executable.context is not self:
            raise ProgramError("program: was loaded by another context, must be loaded by this one")
        check_inputs(executable.program, inputs)
        self.check_process()
        with executable.lock:
            self._check_open()
            if executable.closed:
                driver = self.device.driver
                raise DeviceError(f"{driver}: the program was closed, must be loaded again")
            if executable.pending is not None:
                executable.pending.complete(self.deadline(executable))
            with trace.span("convert inputs", program=executable.number):
                executable.store(inputs)
            fence = executable.pending = Inference(executable)
            executable.start()
            return fence

    def check_process(self) -> None:
        """Raise DeviceError in a forked child of the process that opened the node."""
        forks.check_process(self.owner, self.device.driver)

    def _check_open(self) -> None:
        if self._closed:
            driver = self.device.driver
            raise DeviceError(f"{driver}: the device was closed, must be opened again")

    def forget(self, executable: LoadedProgram[Any, Any]) -> None:
        """Remove an executable that was closed."""
        with self._lock:
            if executable in self._executables:
                self._executables.remove(executable)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._lock:
            executables = list(reversed(self._executables))
        try:
            close_all(lambda executable: executable.close(), executables)
        finally:
            self._finalizer()
