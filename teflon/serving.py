"""Cameras served by one chip, in modelled time: which frame runs when, and who waits how long.

A worker is what a pool has: a device opened for itself, with one inference under way. The chip's
part is done on the simulated chip, which schedules jobs of all its open files as the kernel does
and keeps time; the host's part (conversions, what runs on the CPU) takes what `teflon estimate`
says, each worker having a CPU core for it.
"""

from __future__ import annotations

import bisect
import heapq
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from teflon.chart import Gantt
from teflon.devices import SIMULATED, open_device
from teflon.errors import DriverUnavailable, OptionError
from teflon.estimate import HOST, Estimate, Step, estimate
from teflon.ir.types import Array
from teflon.partition import Plan
from teflon.pipe import Context, Device, Executable, Program
from teflon.plugins import discover
from teflon.schedule import Run, Schedule, Timeline

WAITING = 2
"""Frames of a camera that may wait: an older one is left out for a newer one."""

TIME = {"simulate": "time"}
"""Option of drivers whose simulated chips can keep their time and leave the arithmetic."""


@dataclass(frozen=True)
class Cameras:
    """What is to be served: cameras that send frames at even distances, one after the other."""

    streams: int
    fps: float
    seconds: float = 4.0
    workers: int = 3

    def __post_init__(self) -> None:
        """Raise OptionError for what cannot be."""
        for name in ("streams", "fps", "seconds", "workers"):
            if getattr(self, name) <= 0:
                raise OptionError(f"{name}: is {getattr(self, name)}, must be more than 0")

    def arrivals(self) -> list[list[float]]:
        """Return the milliseconds at which each camera's frames come."""
        period = 1000 / self.fps
        return [
            [n * period + s * period / self.streams for n in range(round(self.seconds * self.fps))]
            for s in range(self.streams)
        ]


@dataclass(frozen=True)
class Served:
    """A frame: its camera, its worker; when it came, was taken and was done; milliseconds."""

    stream: int
    worker: int
    arrival: float
    taken: float
    done: float


@dataclass(frozen=True)
class Service:
    """What became of the frames; `files`: the workers' open files, as the schedule has them."""

    cameras: Cameras
    served: tuple[Served, ...]
    schedule: Schedule
    files: tuple[int, ...]

    def jobs(self) -> Iterator[tuple[Run, Served]]:
        """Yield every job with the frame that it worked for."""
        for worker, file in enumerate(self.files):
            frames = sorted((f for f in self.served if f.worker == worker), key=lambda f: f.taken)
            starts = [frame.taken for frame in frames]
            for run in self.schedule.runs:
                if run.file == file:
                    yield run, frames[bisect.bisect_right(starts, run.submitted) - 1]

    def gantt(self, until: float) -> Gantt:
        """Return the picture of the first milliseconds: cores as lines, cameras in colours."""
        lines: list[list[tuple[float, float, str]]] = [[] for _ in range(self.schedule.cores)]
        for run, frame in self.jobs():
            if run.start < until:
                end = min(run.end, until)
                lines[run.core].append((run.start, end, f"camera {frame.stream}"))
        cameras = self.cameras
        title = (
            f"{self.schedule.chip}: {cameras.streams} cameras of {cameras.fps:g} frames/s,"
            f" {cameras.workers} workers, modelled time"
        )
        named = tuple((f"core {n}", tuple(sorted(spans))) for n, spans in enumerate(lines))
        return Gantt(title, "ms", named)

    def rates(self) -> list[float]:
        """Return each camera's frames per second: of results, from its first to its last one."""
        found = []
        for stream in range(self.cameras.streams):
            done = sorted(f.done for f in self.served if f.stream == stream)
            span = done[-1] - done[0] if done else 0.0
            found.append(1000 * (len(done) - 1) / span if span else 0.0)
        return found

    def latency(self) -> tuple[float, float]:
        """Return the median and what 95 % stay below, from a frame's coming to its result; ms."""
        times = sorted(f.done - f.arrival for f in self.served)
        return statistics.median(times), times[int(len(times) * 0.95)]

    def utilisation(self) -> float:
        """Return the share of the time in which the cores worked."""
        end = max(self.schedule.end, 1000 * self.cameras.seconds)
        return sum(self.schedule.busy()) / (self.schedule.cores * end)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON; times in modelled ms."""
        median, most = self.latency()
        return {
            "format": 1, "chip": self.schedule.chip, "streams": self.cameras.streams,
            "fps": self.cameras.fps, "workers": self.cameras.workers, "frames": len(self.served),
            "frames_per_second": self.rates(), "latency_ms": {"median": median, "95%": most},
            "utilisation": self.utilisation(),
        }  # fmt: skip

    def problems(self) -> list[str]:
        """Return what cannot be, of the schedule and of the frames."""
        found = self.schedule.problems()
        found += [f"{f}: is taken before it came" for f in self.served if f.taken < f.arrival]
        for worker in range(self.cameras.workers):
            own = sorted((f for f in self.served if f.worker == worker), key=lambda f: f.taken)
            found += [f"{b}: is taken before {a} is done"
                      for a, b in pairwise(own) if b.taken < a.done]  # fmt: skip
        for stream in range(self.cameras.streams):
            came = [f.arrival for f in self.served if f.stream == stream]
            found += [f"camera {stream}: out of order"] if came != sorted(set(came)) else []
        return found


def serve(
    plan: Plan,
    devices: Sequence[Device],
    programs: Sequence[Program | None],
    cameras: Cameras,
    options: Mapping[str, object] | None = None,
) -> Service:
    """Serve cameras with a compiled model (see `runtime.compile_plan`) on the simulated chip.

    options: the driver's. Deterministic. Raises DriverUnavailable where a driver's simulator keeps
    no time, or where nothing runs a part of the model.
    """
    cost = estimate(plan, devices, programs)
    if cost.nowhere:
        raise DriverUnavailable(f"{cost.nowhere[0]}: nothing runs it, must run to be served")
    with ExitStack() as opened:
        first = opened.enter_context(_open(devices[0], options or {}))
        others = (opened.enter_context(first.again()) for _ in range(cameras.workers - 1))
        workers = []
        for number, context in enumerate((first, *others)):
            workers.append(_Worker(number, context, _stages(plan, programs, cost, context)))
        timelines = [_timeline(worker.context) for worker in workers]
        served = _run(cameras, workers)
        files = tuple(timeline.file for timeline in timelines)
        return Service(cameras, served, timelines[0].schedule(), files)


def _open(device: Device, options: Mapping[str, object]) -> Context:
    if TIME.keys() <= discover().drivers[device.driver].options.keys():
        context = open_device(SIMULATED + device.chip, {**options, **TIME})[1]
        if context is not None and context.timeline is not None:
            return context
    raise DriverUnavailable(
        f"{device.chip}: driver {device.driver} simulates no modelled time, must keep it to serve"
        " streams"
    )


def _timeline(context: Context) -> Timeline:
    assert context.timeline is not None, "_open saw to it"
    return context.timeline


@dataclass(frozen=True)
class _Stage:
    """Milliseconds on the host, then an inference on the chip; the last stage has none."""

    host: float
    executable: Executable | None = None
    inputs: tuple[Array, ...] = ()


def _stages(
    plan: Plan, programs: Sequence[Program | None], cost: Estimate, context: Context
) -> list[_Stage]:
    """Return what an inference consists of, the chip's programs loaded."""
    stages: list[_Stage] = []
    host = 0.0
    for part, program in zip(plan.partitions, programs, strict=True):
        steps = [step for step in cost.steps if step.partition == part.index]
        if part.device or program is None:
            host += _milliseconds(steps)
            continue
        on_chip = [n for n, step in enumerate(steps) if step.cost.engine != HOST]
        first = on_chip[0] if on_chip else len(steps)
        inputs = tuple(np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs)
        before = host + _milliseconds(steps[:first])
        stages.append(_Stage(before, context.load(program), inputs))
        host = _milliseconds([s for s in steps[first:] if s.cost.engine == HOST])
    return [*stages, _Stage(host)]


def _milliseconds(steps: Sequence[Step]) -> float:
    return sum(step.cost.total_ms for step in steps)


@dataclass(frozen=True)
class _Worker:
    number: int
    context: Context
    stages: Sequence[_Stage]

    def infer(self, at: float) -> Iterator[float]:
        """Run an inference from a time on; yield when each of its stages reaches the chip, to be
        resumed in the order of time, and when it is done.
        """
        clock = _timeline(self.context).clock
        clock.until(at)
        for stage in self.stages:
            clock.advance(stage.host)
            yield clock.now
            if stage.executable is not None:
                self.context.submit(stage.executable, stage.inputs).wait()


class _Queues:
    """Frames that wait, a queue for each camera; cameras take turns."""

    def __init__(self, arrivals: Sequence[Sequence[float]]) -> None:
        self._coming = [list(reversed(times)) for times in arrivals]
        self._turns = [0] * len(arrivals)
        self._taken = 0

    def next_arrival(self) -> float | None:
        return min((times[-1] for times in self._coming if times), default=None)

    def take(self, now: float) -> tuple[int, float] | None:
        """Return (camera, arrival) of the frame whose turn it is; None where none waits."""
        waiting = [s for s, times in enumerate(self._coming) if times and times[-1] <= now]
        if not waiting:
            return None
        stream = min(waiting, key=lambda s: (self._turns[s], s))
        times = self._coming[stream]
        while len(times) > WAITING and times[-1 - WAITING] <= now:
            times.pop()
        self._taken += 1
        self._turns[stream] = self._taken
        return stream, times.pop()


@dataclass
class _Frame:
    stream: int
    arrival: float
    taken: float
    course: Iterator[float]


def _run(cameras: Cameras, workers: Sequence[_Worker]) -> tuple[Served, ...]:
    """Let everything happen in the order of time."""
    queues, served = _Queues(cameras.arrivals()), list[Served]()
    flying: list[_Frame | None] = [None] * len(workers)
    agenda = [(0.0, worker.number) for worker in workers]
    while agenda:
        now, number = heapq.heappop(agenda)
        frame = flying[number]
        if frame is None:
            if (taken := queues.take(now)) is None:
                if (coming := queues.next_arrival()) is not None:
                    heapq.heappush(agenda, (coming, number))
                continue
            frame = flying[number] = _Frame(*taken, now, workers[number].infer(now))
        following = next(frame.course, None)
        if following is None:
            served.append(Served(frame.stream, number, frame.arrival, frame.taken, now))
            flying[number] = None
            following = now
        heapq.heappush(agenda, (following, number))
    return tuple(sorted(served, key=lambda f: f.taken))
