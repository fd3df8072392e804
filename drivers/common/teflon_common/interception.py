"""Converting traces of `teflon intercept` to recordings.

native/intercept_trace.c writes a trace, little endian: the head (8 bytes `TFLTRACE`, u32 format,
u32 process), then records (u32 kind, u32 open file, u64 size of the rest):

    1 node     the kernel driver's name
    2 ioctl    u64 request, s64 result (or a negative errno), u64 size, argument before and after
    3 memory   u64 address, bytes: memory to which a pointer of the next submit points
    4 buffer   u64 handle, bytes: its content at the next submit, if it changed
    5 result   u64 handle, bytes: its content after a wait for it
    6 note     text: what could not be recorded

If the program was killed, the last record may be incomplete; it is ignored.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from teflon.errors import RecordingError
from teflon.pipe import Winsys
from teflon_common.caller import refuse
from teflon_common.recorder import Recorder
from teflon_common.recording import SUBMITS, Dialect, NewBuffer, Recording
from teflon_common.structs import Ioctl, Struct

MAGIC, FORMAT = b"TFLTRACE", 1
NODE, IOCTL, MEMORY, BUFFER, RESULT, NOTE = range(1, 7)

_HEAD, _RECORD, _CALL = struct.Struct("<8sII"), struct.Struct("<IIQ"), struct.Struct("<QqQ")


def records(path: str | os.PathLike[str]) -> Iterator[tuple[int, int, memoryview]]:
    """Yield (kind, open file, content) of a trace's records. Raises RecordingError."""
    name = os.fspath(path)
    try:
        data = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise RecordingError(f"{name}: cannot be read, {error.strerror}") from error
    if len(data) < _HEAD.size or data[:8] != MAGIC:
        raise RecordingError(f"{name}: is not a trace, must be written by `teflon intercept`")
    if (version := _HEAD.unpack_from(data)[1]) != FORMAT:
        raise RecordingError(f"{name}: trace has format {version}, must be {FORMAT}")
    at = _HEAD.size
    while at + _RECORD.size <= len(data):
        kind, file, size = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if size > len(data) - at:
            return
        yield kind, file, data[at : at + size]
        at += size


def recordings(
    path: str | os.PathLike[str], dialects: Callable[[str], Dialect | None]
) -> list[Recording]:
    """Return a recording for each open node to which the program submitted jobs.

    dialects: returns the dialect of a kernel driver; nodes of a driver without one are ignored.
    Raises RecordingError for a file that is not a trace, or whose records contradict one another.
    """
    nodes: dict[int, _Node] = {}
    largest = os.path.getsize(path) if os.path.exists(path) else 0
    for number, (kind, file, data) in enumerate(records(path)):
        try:
            if kind == NODE:
                driver = bytes(data).decode(errors="replace")
                dialect = dialects(driver)
                if dialect is not None:
                    nodes[file] = _Node(dialect, driver, largest)
            elif file in nodes:
                nodes[file].step(kind, data)
        except (struct.error, ValueError, KeyError) as error:
            raise RecordingError(
                f"{os.fspath(path)}: record {number} does not fit those before it"
                f" ({type(error).__name__}: {error})"
            ) from error
    made = [node.recorder.recording() for node in nodes.values()]
    return [recording for recording in made if recording.submits]


@dataclass
class _Trace(Winsys):
    """A winsys that gives the answers of a trace; `memory` is the memory of the program."""

    answer: bytes = b""
    result: int = 0
    memory: dict[int, bytes] = field(default_factory=dict)
    largest: int = 0
    """The size of the trace: the trace cannot have the content of a larger buffer."""

    def ioctl(self, request: int, argument: bytearray) -> int:
        if self.result < 0:
            raise refuse(-self.result)
        argument[:] = self.answer
        return self.result

    def mmap(self, offset: int, size: int) -> memoryview:
        return memoryview(bytearray(size if size <= self.largest else 0))

    def close(self) -> None:
        """Do nothing: a trace has no open file."""

    def read(self, pointer: int, size: int) -> bytes:
        """Return memory of the program. Raises ValueError if the trace does not contain it, and
        OSError if the request was refused: then the program itself may not have it.
        """
        starts = sorted(self.memory)
        place = bisect.bisect_right(starts, pointer) - 1
        if size == 0:
            return b""
        start = starts[place] if place >= 0 else 0
        found = self.memory.get(start, b"")[pointer - start :][:size]
        if len(found) != size:
            if self.result < 0:
                raise refuse(-self.result)
            raise ValueError(f"{size} bytes at {pointer:#x} are not in the trace")
        return found


class _Recorder(Recorder):
    """Makes the recording of a trace."""

    keeps_outputs = True

    def __init__(self, trace: _Trace, dialect: Dialect, driver: str) -> None:
        super().__init__(trace, dialect, driver, driver)
        self._trace = trace
        self._meta["recorder"] = "teflon intercept"
        self.contents: dict[int, memoryview] = {}

    def entry(self, ioctl: Ioctl, argument: Struct) -> dict[str, Any]:
        return self._dialect.entry(ioctl, argument, self._trace.read)

    def stream(self, ioctl: Ioctl, argument: Struct) -> bytes | None:
        return self._dialect.stream(ioctl, argument, self._trace.read)

    def user_memory(self, pointer: int, size: int) -> bytes:
        """Return nothing: a trace has no memory but buffers and what submits point to."""
        return b""

    def view(self, new: NewBuffer) -> memoryview:
        self.contents[new.handle] = super().view(new)
        return self.contents[new.handle]


class _Node:
    """One open file of the traced program."""

    def __init__(self, dialect: Dialect, driver: str, largest: int) -> None:
        self._trace, self._dialect = _Trace(largest=largest), dialect
        self.recorder = _Recorder(self._trace, dialect, driver)

    def step(self, kind: int, data: memoryview) -> None:
        """Process one record."""
        if kind == IOCTL:
            self._ioctl(data)
            return
        if kind not in (MEMORY, BUFFER, RESULT):
            return
        (number,) = struct.unpack_from("<Q", data)
        content = bytes(data[8:])
        if kind == MEMORY:
            self._trace.memory[number] = content
        elif kind == BUFFER and number in self.recorder.contents:
            self.recorder.contents[number][:] = content
        elif kind == RESULT:
            self.recorder.add_result(number, content)

    def _ioctl(self, data: memoryview) -> None:
        request, result, size = _CALL.unpack_from(data)
        before = bytearray(data[_CALL.size : _CALL.size + size])
        self._trace.answer = bytes(data[_CALL.size + size : _CALL.size + 2 * size])
        self._trace.result = result
        with contextlib.suppress(OSError):  # the log has the error
            self.recorder.ioctl(request, before)
        found = self._dialect.interface.find(request)
        if found is not None and found.name in SUBMITS:
            self._trace.memory.clear()
