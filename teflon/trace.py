"""TEFLON_DEBUG=trace: what happened when, for Perfetto or chrome://tracing.

    with trace.span("compile", partition=0):
        ...

A span that is not wanted costs one call and a set lookup. The file, named by TEFLON_TRACE, is
written whole when a device is closed and when the interpreter ends: JSON, complete events (ph X)
with microseconds since the first one, and the names of processes and threads (ph M).
"""

# Ref: Trace Event Format (Google), "JSON Object Format", "Complete Events", "Metadata Events"

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from teflon import debug

VARIABLE = "TEFLON_TRACE"
DEFAULT = "teflon-trace.json"
MOST_EVENTS = 1_000_000
"""Later ones are counted only: a trace that nobody ends must not eat the memory."""

_TRACKS = 1 << 30
"""Where the numbers of tracks begin that are no threads; threads of a kernel are below."""

_NOTHING: AbstractContextManager[None] = nullcontext()


class _Recorder:
    """The events of this process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.start = time.perf_counter_ns()
        self.events: list[dict[str, Any]] = []
        self.dropped = 0
        self.names: dict[int, str] = {}
        self.processes: dict[str, int] = {}
        self.homes: dict[int, int] = {}
        self.numbers = itertools.count(_TRACKS)
        self.lock = threading.Lock()
        self.changed = False
        self.local = threading.local()
        atexit.register(write)

    def thread(self) -> int:
        """Return the number of the calling thread; notes its name."""
        number = threading.get_native_id()
        self.names.setdefault(number, threading.current_thread().name)
        return number

    def home(self, tid: int) -> int:
        """Return the process that a track is shown in."""
        return self.homes.get(tid, self.process)

    def add(self, event: dict[str, Any]) -> None:
        with self.lock:
            self.changed = True
            if len(self.events) < MOST_EVENTS:
                self.events.append(event)
            else:
                self.dropped += 1

    def document(self) -> dict[str, Any]:
        """Return everything so far, names first, as the file has it."""
        with self.lock:
            events, names = list(self.events), dict(self.names)
            processes = {"teflon": self.process, **self.processes}
        common = {"ph": "M", "ts": 0.0}
        named = [
            common | {"name": "process_name", "pid": pid, "tid": pid, "args": {"name": name}}
            for name, pid in processes.items()
        ]
        named += [
            common
            | {"name": "thread_name", "pid": self.home(tid), "tid": tid, "args": {"name": name}}
            for tid, name in names.items()
        ]
        return {
            "traceEvents": named + sorted(events, key=lambda e: (e["ts"], -e["dur"])),
            "displayTimeUnit": "ms",
            "otherData": {"producer": "teflon-npu", "dropped": self.dropped},
        }


_recorder: _Recorder | None = None
_making = threading.Lock()


def enabled() -> bool:
    """Whether a trace is wanted."""
    return debug.enabled("trace")


def _running() -> _Recorder:
    global _recorder
    with _making:
        if _recorder is None or _recorder.process != os.getpid():  # a forked child begins anew
            _recorder = _Recorder()
        return _recorder


def span(name: str, track: int = 0, **details: object) -> AbstractContextManager[None]:
    """Note how long the body takes, on the calling thread or a track; details as they print."""
    return _span(name, track, details) if enabled() else _NOTHING


@contextlib.contextmanager
def _span(name: str, track: int, details: dict[str, object]) -> Iterator[None]:
    recorder = _running()
    tid = track or recorder.thread()
    start = time.perf_counter_ns()
    try:
        yield
    finally:
        end = time.perf_counter_ns()
        recorder.add(
            {
                "name": name, "ph": "X", "pid": recorder.process, "tid": tid,
                "ts": (start - recorder.start) / 1e3, "dur": (end - start) / 1e3,
                "args": {key: _plain(value) for key, value in details.items()},
            }
        )  # fmt: skip


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else str(value)


def track(name: str, process: str = "") -> int:
    """Return a line of the picture that is no thread, such as a simulated core; 0 if unwanted.

    process: shown apart under this heading, for times that are not this computer's.
    """
    if not enabled():
        return 0
    recorder = _running()
    with recorder.lock:
        number = next(recorder.numbers)
        recorder.names[number] = name
        if process:
            recorder.homes[number] = recorder.processes.setdefault(process, number)
    return number


def modelled(name: str, track: int, start: float, end: float, **details: object) -> None:
    """Note a span of modelled time on a track of its own; milliseconds from the model's zero."""
    if not enabled() or not track:
        return
    recorder = _running()
    begun, ended = round(1e6 * start), round(1e6 * end)  # whole nanoseconds: sums meet
    recorder.add(
        {
            "name": name, "ph": "X", "pid": recorder.home(track), "tid": track,
            "ts": begun / 1e3, "dur": (ended - begun) / 1e3,
            "args": {key: _plain(value) for key, value in details.items()} | {"modelled": True},
        }
    )  # fmt: skip


class Labelled(Protocol):
    """Something that is submitted: its name, and those of its parts."""

    @property
    def name(self) -> str: ...

    @property
    def task_names(self) -> tuple[str, ...]: ...


def labels(names: Sequence[str | Labelled]) -> AbstractContextManager[None]:
    """Let what the body submits, in this thread, be known by these names."""
    return _labels(names) if enabled() else _NOTHING


@contextlib.contextmanager
def _labels(names: Sequence[str | Labelled]) -> Iterator[None]:
    local = _running().local
    outer, local.labels = getattr(local, "labels", ()), names
    try:
        yield
    finally:
        local.labels = outer


def submitted() -> tuple[str | Labelled, ...]:
    """Return the names of what is being submitted in this thread; none if unwanted or unknown."""
    return tuple(getattr(_running().local, "labels", ())) if enabled() else ()


def label(number: int, default: str) -> str:
    """Return the name of the thing of this number that is being submitted in this thread."""
    found = _labelled(number)
    return (found if isinstance(found, str) else found.name) or default


def part_labels(number: int) -> tuple[str, ...]:
    """Return the names of the parts of the thing of this number; () where there are none."""
    found = _labelled(number)
    return () if isinstance(found, str) else found.task_names


def _labelled(number: int) -> str | Labelled:
    names = submitted()
    return names[number] if number < len(names) else ""


def path() -> Path:
    """Return where the trace goes; `%p` in the variable is the process's number."""
    name = os.environ.get(VARIABLE, "").strip() or DEFAULT
    return Path(name.replace("%p", str(os.getpid())))


def write() -> None:
    """Write the trace so far, whole or not at all; does nothing where nothing is new.

    Never raises: a trace that cannot be written is reported on stderr. A child of fork that traced
    nothing itself writes nothing.
    """
    recorder = _recorder
    if recorder is None or not recorder.changed or recorder.process != os.getpid():
        return
    recorder.changed = False
    target = path()
    data = json.dumps(recorder.document(), separators=(",", ":"))
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        partial.write_text(data, "utf-8")
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        debug.log(f"{VARIABLE}: {target}: cannot be written, {error.strerror or error}")
