"""Timelines for Perfetto or chrome://tracing, written when TEFLON_DEBUG contains `trace`.

    with trace.span("compile", partition=0):
        ...

Without the flag a span costs one call and a set lookup. TEFLON_TRACE names the file. It is written
when a device is closed and when the interpreter ends. It is JSON: complete events (ph X) with
microseconds since the first event, and the names of processes and threads (ph M).
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

from teflon import debug, forks

VARIABLE = "TEFLON_TRACE"
DEFAULT = "teflon-trace.json"
MOST_EVENTS = 1_000_000
"""Later events are counted but not kept: a program that runs for days must not fill the memory."""

_TRACKS = 1 << 30
"""The first number of tracks that are not threads; thread numbers of the kernel are smaller."""

_NO_SPAN: AbstractContextManager[None] = nullcontext()


class _Recorder:
    """The events of this process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.start = time.perf_counter_ns()
        self.events: list[dict[str, Any]] = []
        self.dropped = 0
        self.names: dict[int, str] = {}
        self.processes: dict[str, int] = {}
        self.track_processes: dict[int, int] = {}
        self.numbers = itertools.count(_TRACKS)
        self.lock = forks.lock()
        self.changed = False
        self.local = threading.local()
        atexit.register(write)

    def thread(self) -> int:
        """Return the number of the calling thread, and note the thread's name."""
        number = threading.get_native_id()
        self.names.setdefault(number, threading.current_thread().name)
        return number

    def process_of(self, tid: int) -> int:
        """Return the number of the process under which a track is shown."""
        return self.track_processes.get(tid, self.process)

    def add(self, event: dict[str, Any]) -> None:
        with self.lock:
            self.changed = True
            if len(self.events) < MOST_EVENTS:
                self.events.append(event)
            else:
                self.dropped += 1

    def document(self) -> dict[str, Any]:
        """Return the content of the file: the names, then all events so far."""
        with self.lock:
            events, names = list(self.events), dict(self.names)
            processes = {"teflon": self.process, **self.processes}
        common = {"ph": "M", "ts": 0.0}
        metadata = [
            common | {"name": "process_name", "pid": pid, "tid": pid, "args": {"name": name}}
            for name, pid in processes.items()
        ]
        metadata += [
            {
                **common, "name": "thread_name", "pid": self.process_of(tid), "tid": tid,
                "args": {"name": name},
            }
            for tid, name in names.items()
        ]  # fmt: skip
        return {
            "traceEvents": metadata + sorted(events, key=lambda e: (e["ts"], -e["dur"])),
            "displayTimeUnit": "ms",
            "otherData": {"producer": "teflon-npu", "dropped": self.dropped},
        }


_recorder: _Recorder | None = None
_recorder_lock = forks.lock()


def enabled() -> bool:
    """Whether TEFLON_DEBUG contains `trace`."""
    return debug.enabled("trace")


def _current_recorder() -> _Recorder:
    global _recorder
    with _recorder_lock:
        if _recorder is None or _recorder.process != os.getpid():  # a forked child begins anew
            _recorder = _Recorder()
        return _recorder


def span(name: str, track: int = 0, **details: object) -> AbstractContextManager[None]:
    """Record how long the body takes, on the track of the calling thread or on another one.

    Details that are not text, number or bool are recorded as `str` shows them.
    """
    return _span(name, track, details) if enabled() else _NO_SPAN


@contextlib.contextmanager
def _span(name: str, track: int, details: dict[str, object]) -> Iterator[None]:
    recorder = _current_recorder()
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
                "args": {key: _json_value(value) for key, value in details.items()},
            }
        )  # fmt: skip


def _json_value(value: object) -> object:
    return value if isinstance(value, str | int | float | bool) else str(value)


def track(name: str, process: str = "") -> int:
    """Return the number of a new track for something other than a thread, such as a simulated core.

    Returns 0 if tracing is off. `process` is a heading under which the track is shown, for times
    that are not this computer's.
    """
    if not enabled():
        return 0
    recorder = _current_recorder()
    with recorder.lock:
        number = next(recorder.numbers)
        recorder.names[number] = name
        if process:
            recorder.track_processes[number] = recorder.processes.setdefault(process, number)
    return number


def modelled(name: str, track: int, start: float, end: float, **details: object) -> None:
    """Record a span of modelled time on a track; `start` and `end` are modelled milliseconds."""
    if not enabled() or not track:
        return
    recorder = _current_recorder()
    first, last = round(1e6 * start), round(1e6 * end)  # whole nanoseconds: neighbours touch
    recorder.add(
        {
            "name": name, "ph": "X", "pid": recorder.process_of(track), "tid": track,
            "ts": first / 1e3, "dur": (last - first) / 1e3,
            "args": {**{k: _json_value(v) for k, v in details.items()}, "modelled": True},
        }
    )  # fmt: skip


class Labelled(Protocol):
    """The names of a submitted job and of its tasks."""

    @property
    def name(self) -> str: ...

    @property
    def task_names(self) -> tuple[str, ...]: ...


def labels(names: Sequence[str | Labelled]) -> AbstractContextManager[None]:
    """Name the jobs that the body submits in this thread."""
    return _labels(names) if enabled() else _NO_SPAN


@contextlib.contextmanager
def _labels(names: Sequence[str | Labelled]) -> Iterator[None]:
    local = _current_recorder().local
    outer, local.labels = getattr(local, "labels", ()), names
    try:
        yield
    finally:
        local.labels = outer


def submitted() -> tuple[str | Labelled, ...]:
    """Return the names of the jobs that this thread submits now; () without `labels` or trace."""
    return tuple(getattr(_current_recorder().local, "labels", ())) if enabled() else ()


def label(number: int, default: str) -> str:
    """Return the name of job `number` of the submit in this thread, else `default`."""
    found = _label_at(number)
    return (found if isinstance(found, str) else found.name) or default


def part_labels(number: int) -> tuple[str, ...]:
    """Return the names of the tasks of job `number`; () if they are unknown."""
    found = _label_at(number)
    return () if isinstance(found, str) else found.task_names


def _label_at(number: int) -> str | Labelled:
    names = submitted()
    return names[number] if number < len(names) else ""


def path() -> Path:
    """Return the path of the trace; `%p` in TEFLON_TRACE stands for the process's number."""
    name = os.environ.get(VARIABLE, "").strip() or DEFAULT
    return Path(name.replace("%p", str(os.getpid())))


def write() -> None:
    """Write all events so far to the file; do nothing if there are no new ones.

    The file is replaced at once, so it is never incomplete. Never raises: an error is reported on
    stderr. A forked child that recorded nothing itself writes nothing.
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
