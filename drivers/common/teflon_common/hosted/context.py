"""Models that a runtime has opened, and inferences with them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from teflon.errors import DeviceError, DriverUnavailable, ProgramError
from teflon.ir.types import Array, DType
from teflon.pipe import Context, Device, Executable, Fence, Program
from teflon_common.hosted.device import HostedDevice
from teflon_common.hosted.host import Host, HostError, tensors
from teflon_common.hosted.program import HostedProgram, Port
from teflon_common.hosted.sessions import Kept, Opened, session_of
from teflon_common.hosted.waiting import Patient
from teflon_common.processor import DoneFence


class HostedExecutable(Executable):
    """A model that the runtime has opened; inferences wait for each other.

    A model that holds state is opened once more for each content of it.
    """

    def __init__(self, host: Host, program: HostedProgram) -> None:
        self.program: Program = program
        self.own = program
        self.host = host
        self.closed = False
        self._held = [n for n, port in enumerate(program.input_ports) if port.is_held]
        self._unused = [self._open()]  # no lock: a fork could leave it locked for ever
        self._session: Opened | None = None
        self._patient = Patient()

    def _open(self) -> Opened:
        own = self.own
        names = [[p.runtime_name for p in ports] for ports in (own.input_ports, own.output_ports)]
        try:
            return Opened(self.host.open(own.model, *map(tensors, names)))
        except HostError as error:
            raise DeviceError(f"{own.driver}: {own.title}: cannot be opened: {error}") from error

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs as new arrays. Raises DeviceError."""
        own = self.own
        if self.closed:
            raise DeviceError(f"{own.driver}: is closed, must be open")
        opened = self._holding([inputs[n] for n in self._held]) if self._held else self._shared()
        given = [a for a, p in zip(inputs, own.input_ports, strict=True) if not p.is_held]
        with opened.lock:
            opened.turns += 1
            kept = Kept(own, opened, opened.turns)
            try:
                results = iter(self._patient(opened.session.run, given))
            except HostError as error:
                self._drop(opened)
                raise DeviceError(f"{own.driver}: {own.title}: {error}") from error
            except BaseException:  # interrupted: the session may still be at work
                self._drop(opened)
                raise
        outputs = [kept.as_array() if p.is_held else next(results) for p in own.output_ports]
        for port, array in zip(own.output_ports, outputs, strict=True):
            self._check(port, array, "output")
        return outputs

    def _shared(self) -> Opened:
        """Return the session of a model without state."""
        found = self._session
        if found is None or not found.is_ours:
            found = self._session = self._new()
        return found

    def _drop(self, opened: Opened) -> None:
        """Never use a session again: what a failure left in it could show in later results."""
        if self._session is opened:
            self._session = None

    def _holding(self, contents: Sequence[Array]) -> Opened:
        """Return the session that holds these contents, or one that nothing has used."""
        return session_of(self.own, contents) or self._new()

    def _new(self) -> Opened:
        with contextlib.suppress(IndexError):
            if (unused := self._unused.pop()).is_ours:
                return unused
        return self._open()

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
        if want.dtype is DType.OTHER:  # states, texts and the like, which the runtime checks
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
        self._session = None
        self._unused.clear()


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
