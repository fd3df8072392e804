"""Fake kernels behind the device nodes of a virtual board: what `Driver.virtual_node` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.errors import SimulatorFault
from teflon.pipe import Caller, Kernel, OpenFile, Winsys
from teflon_common.caller import calling
from teflon_common.fake_drm import FakeFile, FakeKernel
from teflon_common.fake_files import file_ioctl
from teflon_common.recorder import Recorder
from teflon_common.recording import POLLS, WAITS, Dialect


class ServedKernel(Kernel):
    """A fake kernel whose open files belong to other programs."""

    def __init__(
        self, kernel: FakeKernel, dialect: Callable[[], Dialect] | None = None, chip: str = ""
    ) -> None:
        """dialect: makes the dialect of its recordings. chip: their name of the device."""
        kernel.shares_memory = True
        self.fake, self._dialect, self._chip = kernel, dialect, chip
        self.name, self.complaints = kernel.name, kernel.complaints

    def open(self, record: bool = False, primary: bool = False) -> OpenFile:
        file = ServedFile(self.fake, self.fake.open())
        if primary:
            self.fake.make_primary(file.file)
        if record and self._dialect is not None:
            file.recorder = ServedRecorder(
                _FileWinsys(self.fake, file.file), self._dialect(), self._chip, self.name
            )
            file.recorder.note(recorder="teflon board")
        return file

    def file_ioctl(self, descriptor: int, request: int, argument: bytearray, caller: Caller) -> int:
        with calling(caller):
            return file_ioctl(descriptor, request, argument)

    def request_name(self, request: int) -> str:
        found = self.fake.find(request)
        return found.name if found else f"{request:#x}"

    def decode(self, request: int, argument: bytes | bytearray) -> str:
        return self.fake.decode(request, argument)

    @property
    def real_time(self) -> bool:
        return self.fake.real_time

    @real_time.setter
    def real_time(self, value: bool) -> None:
        self.fake.real_time = value

    @property
    def before_job(self) -> Callable[[Callable[[], bool]], bool] | None:
        return self.fake.before_job

    @before_job.setter
    def before_job(self, value: Callable[[Callable[[], bool]], bool] | None) -> None:
        self.fake.before_job = value


class ServedRecorder(Recorder):
    """Records what a program sends through its node, and what it gets back."""

    keeps_outputs = True

    def ioctl(self, request: int, argument: bytearray) -> int:
        result = super().ioctl(request, argument)
        ioctl = self._dialect.interface.find(request)
        if ioctl is not None and ioctl.name in WAITS:
            values = ioctl.struct.unpack(bytes(argument)).values()
            if values.get("op", 0) & POLLS:
                return result
            handle = values["handle"]
            for buffer in self._alive():
                if buffer.new.handle == handle and len(buffer.view):
                    self.add_result(handle, bytes(buffer.view))
        return result


def _answered(kernel: FakeKernel, file: FakeFile, request: int, argument: bytearray) -> int:
    """Answer a request. A fault of the chip is not reported: the wait for it just ends."""
    try:
        return kernel.ioctl(file, request, argument)
    except SimulatorFault as fault:
        kernel.complaints.append(str(fault))
        fault.__traceback__ = None  # it would keep buffers alive
        return 0


class _FileWinsys(Winsys):
    """The requests of one open file, for its recorder."""

    def __init__(self, kernel: FakeKernel, file: FakeFile) -> None:
        self._kernel, self._file = kernel, file

    def ioctl(self, request: int, argument: bytearray) -> int:
        return _answered(self._kernel, self._file, request, argument)

    def mmap(self, offset: int, size: int) -> memoryview:
        return memoryview(self._kernel.find_offset(self._file, offset, size).cpu)[:size]

    def close(self) -> None:
        """Do nothing: the board closes the file."""


class ServedFile(OpenFile):
    """One open file of a fake kernel."""

    def __init__(self, kernel: FakeKernel, file: FakeFile) -> None:
        self._kernel, self.file = kernel, file
        self.recorder: Recorder | None = None

    def ioctl(self, request: int, argument: bytearray, caller: Caller) -> int:
        with calling(caller):
            if self.recorder is not None:
                return self.recorder.ioctl(request, argument)
            return _answered(self._kernel, self.file, request, argument)

    def memory(self, offset: int, size: int) -> tuple[int, int]:
        bo = self._kernel.find_offset(self.file, offset, size)
        assert bo.file is not None, "the kernel shares its memory"
        return bo.file.number, 0

    def close(self) -> None:
        self._kernel.abandon(self.file)

    def status(self) -> dict[str, Any]:
        handles = list(self.file.handles.values())
        return {"handles": len(handles), "bytes": sum(bo.mapped_bytes for bo in handles)}

    def recording(self) -> bytes | None:
        if self.recorder is None or not self.recorder.submits:
            return None
        return self.recorder.recording().to_bytes()
