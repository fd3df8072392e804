"""Models that a runtime has opened, and inferences with them."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from teflon.errors import DeviceError, DriverUnavailable, ProgramError
from teflon.ir.types import Array, DType
from teflon.pipe import Context, Device, Executable, Fence, Program
from teflon_common.hosted.device import HostedDevice
from teflon_common.hosted.host import Host, HostError, Session
from teflon_common.hosted.program import HostedProgram, Port


@dataclass(frozen=True)
class _Owned:
    """A session of one process: after a fork the child opens its own."""

    pid: int
    lock: threading.Lock
    session: Session


class HostedExecutable(Executable):
    """A model that the runtime has opened; inferences wait for each other."""

    def __init__(self, host: Host, program: HostedProgram) -> None:
        self.program: Program = program
        self.own = program
        self.host = host
        self.closed = False
        self._left: list[_Owned] = []
        self._session: _Owned | None = self._open()

    def _open(self) -> _Owned:
        own = self.own
        names = [[p.runtime_name for p in ports] for ports in (own.input_ports, own.output_ports)]
        try:
            return _Owned(os.getpid(), threading.Lock(), self.host.open(own.content, *names))
        except HostError as error:
            raise DeviceError(f"{own.driver}: {own.title}: cannot be opened: {error}") from error

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs as new arrays. Raises DeviceError."""
        held = self._session
        if held is None or self.closed:
            raise DeviceError(f"{self.own.driver}: is closed, must be open")
        if held.pid != os.getpid():
            self._left.append(held)  # its threads are the parent's: to free it could wait for them
            held = self._session = self._open()
        with held.lock:
            try:
                outputs = held.session.run(inputs)
            except HostError as error:
                raise DeviceError(f"{self.own.driver}: {self.own.title}: {error}") from error
        for port, array in zip(self.own.output_ports, outputs, strict=True):
            self._check(port, array, "output")
        return outputs

    def check_inputs(self, inputs: Sequence[Array]) -> None:
        """Raise DeviceError unless arrays fit the inputs."""
        ports = self.own.input_ports
        if len(inputs) != len(ports):
            raise DeviceError(f"{self.own.driver}: {self.own.title}: gets {len(inputs)} inputs,"
                              f" must get {len(ports)}")  # fmt: skip
        for port, array in zip(ports, inputs, strict=True):
            self._check(port, array, "input")

    def _check(self, port: Port, array: Array, word: str) -> None:
        want = port.type
        if want.dtype is DType.OTHER:  # texts and the like, which the runtime checks
            return
        fits = array.shape == want.shape or (want.dynamic and array.ndim == len(want.shape))
        if array.dtype == want.dtype.numpy and (fits or want.dynamic):
            return
        raise DeviceError(
            f"{self.own.driver}: {self.own.title}: {word} {port.name!r} is"
            f" {array.dtype}{list(array.shape)}, must be {want.dtype.numpy}{list(want.shape)}"
        )

    def close(self) -> None:
        self.closed = True
        held, self._session = self._session, None
        if held is not None and held.pid != os.getpid():
            self._left.append(held)


@dataclass(frozen=True)
class DoneFence(Fence):
    """An inference that is finished already."""

    outputs: list[Array]

    def done(self) -> bool:
        return True

    def wait(self, timeout: float | None = None) -> list[Array]:
        return self.outputs


class HostedContext(Context):
    """Runs programs in the calling thread. Any number of threads may use it."""

    def __init__(self, device: HostedDevice) -> None:
        self.device: Device = device
        self._hosted = device
        self._host = self._found()
        self._loaded: list[HostedExecutable] = []
        self._closed = False

    def _found(self) -> Host:
        try:
            return self._hosted.host()
        except DriverUnavailable as error:
            raise DriverUnavailable(f"{self._hosted.driver}: {error}") from error

    def load(self, program: Program) -> Executable:
        if not isinstance(program, HostedProgram) or program.driver != self._hosted.driver:
            raise ProgramError(f"{self._hosted.driver}: program is for {program.driver!r}, must be"
                               f" for {self._hosted.driver!r}")  # fmt: skip
        if self._closed:
            raise DeviceError(f"{self._hosted.driver}: is closed, must be open")
        executable = HostedExecutable(self._host, program)
        self._loaded = [e for e in self._loaded if not e.closed] + [executable]
        return executable

    def submit(self, executable: Executable, inputs: Sequence[Array]) -> Fence:
        if not isinstance(executable, HostedExecutable):
            raise ProgramError(f"{self._hosted.driver}: executable is another driver's, must be"
                               " loaded here")  # fmt: skip
        if self._closed:
            raise DeviceError(f"{self._hosted.driver}: is closed, must be open")
        executable.check_inputs(inputs)
        return DoneFence(executable.run(inputs))

    def close(self) -> None:
        self._closed = True
        for executable in self._loaded:
            executable.close()
        self._loaded = []
