"""Several cameras on one chip, in modelled time: when each frame runs, and how long it waits.

Each worker opens the device for itself and has programs, buffers and threads, as a pool has for
each core. The simulated chip runs the programs; it schedules the jobs of all open files as the
kernel does, and predicts their times. The host's work (conversions, operations on the CPU) takes
the time of `teflon estimate`; every thread has a CPU core of its own.
"""

from __future__ import annotations

import collections
import heapq
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from teflon.compile.artefact import Artefact
from teflon.devices import SIMULATED, open_device
from teflon.errors import DriverUnavailable, OptionError
from teflon.pipe import HOST, Context, Device, Program, Schedule
from teflon.plugins import discover
from teflon.run.model import OVERLAPPING
from teflon.timing.chart import Gantt
from teflon.timing.estimate import Estimate, Step, estimate

WAITING = 2
"""Frames of a camera that may wait; the oldest is dropped if a newer one comes."""

TIME = {"simulate": "time"}
"""The option with which a driver's simulated chip predicts times and computes nothing."""


@dataclass(frozen=True)
class Cameras:
    """Cameras that send frames at regular intervals, and the workers that serve them.

    workers: how many times the device is opened. threads: inferences that run at the same time in
    each worker. copies: sets of buffers in each worker; an inference uses one set from its first
    input to its outputs.
    """

    streams: int
    fps: float
    seconds: float = 4.0
    workers: int = 3
    threads: int = OVERLAPPING
    copies: int = OVERLAPPING

    def __post_init__(self) -> None:
        """Raise OptionError for a number that is not positive."""
        for name, value in vars(self).items():
            if value <= 0:
                raise OptionError(f"{name}: is {value}, must be more than 0")

    def arrivals(self) -> list[list[float]]:
        """Return for each camera the milliseconds at which its frames arrive."""
        period = 1000 / self.fps
        return [
            [n * period + s * period / self.streams for n in range(round(self.seconds * self.fps))]
            for s in range(self.streams)
        ]


@dataclass(frozen=True)
class ServedFrame:
    """When a frame arrived, started and ended, in milliseconds; its camera and its slot.

    A slot is a thread of a worker.
    """

    stream: int
    slot: int
    arrival: float
    start: float
    end: float


@dataclass(frozen=True)
class Service:
    """The result of `serve`: all frames that were served, and the chip's schedule."""

    cameras: Cameras
    served: tuple[ServedFrame, ...]
    schedule: Schedule
    owners: Mapping[tuple[int, int], int]
    """(file, submit) of the schedule -> camera."""

    def gantt(self, until: float) -> Gantt:
        """Return a picture of the first milliseconds, with a line for each core and a colour for
        each camera.
        """
        lines: list[list[tuple[float, float, str]]] = [[] for _ in range(self.schedule.cores)]
        for run in self.schedule.runs:
            if run.start < until:
                camera = f"camera {self.owners[run.file, run.submit]}"
                lines[run.core].append((run.start, min(run.end, until), camera))
        cameras = self.cameras
        title = (
            f"{self.schedule.chip}: {cameras.streams} cameras of {cameras.fps:g} frames/s,"
            f" {cameras.workers} workers x {cameras.threads} threads, modelled time"
        )
        rows = tuple((f"core {n}", tuple(sorted(spans))) for n, spans in enumerate(lines))
        return Gantt(title, "ms", rows)

    def rates(self) -> list[float]:
        """Return each camera's results per second, from its first to its last result."""
        found = []
        for stream in range(self.cameras.streams):
            ends = sorted(f.end for f in self.served if f.stream == stream)
            span = ends[-1] - ends[0] if ends else 0.0
            found.append(1000 * (len(ends) - 1) / span if span else 0.0)
        return found

    def latency(self) -> tuple[float, float]:
        """Return median and 95th percentile of the ms from a frame's arrival to its result."""
        times = sorted(f.end - f.arrival for f in self.served)
        return statistics.median(times), times[int(len(times) * 0.95)]

    def utilisation(self) -> float:
        """Return the share of the time in which the cores worked, 0 to 1."""
        end = max(self.schedule.end, 1000 * self.cameras.seconds)
        return sum(self.schedule.busy()) / (self.schedule.cores * end)

    def as_dict(self) -> dict[str, Any]:
        """Return the results as JSON; times in modelled ms."""
        median, most = self.latency()
        return {
            "format": 1,
            "chip": self.schedule.chip,
            **vars(self.cameras),
            "frames": len(self.served),
            "frames_per_second": self.rates(),
            "latency_ms": {"median": median, "95%": most},
            "utilisation": self.utilisation(),
        }

    def problems(self) -> list[str]:
        """Return a sentence for each contradiction in the schedule and in the frames' times."""
        found = self.schedule.problems()
        found += [f"{f}: starts before it arrives" for f in self.served if f.start < f.arrival]
        for slot in dict.fromkeys(f.slot for f in self.served):
            own = sorted((f for f in self.served if f.slot == slot), key=lambda f: f.start)
            found += [f"{b}: starts before {a} ends"
                      for a, b in pairwise(own) if b.start < a.end]  # fmt: skip
        for stream in range(self.cameras.streams):
            arrivals = [f.arrival for f in self.served if f.stream == stream]
            found += [f"camera {stream}: out of order"] if arrivals != sorted(set(arrivals)) else []
        return found


def serve(
    artefact: Artefact, cameras: Cameras, options: Mapping[str, object] | None = None
) -> Service:
    """Serve cameras with a compiled model on the simulated chip. The result is deterministic.

    options: the driver's. Raises DriverUnavailable if the driver's simulator does not predict
    times.
    """
    cost = estimate(artefact)
    with ExitStack() as opened:
        first = opened.enter_context(_open(artefact.devices[0], options or {}))
        others = [opened.enter_context(first.again()) for _ in range(cameras.workers - 1)]
        slots = []
        for context in (first, *others):
            worker = _Worker(context)
            copies = [_stages(artefact, cost, worker) for _ in range(cameras.copies)]
            slots += [_Slot(worker, copies[n % len(copies)]) for n in range(cameras.threads)]
        served = _run(cameras, slots)
        owners = {
            (slot.worker.timeline.file, submit): stream
            for slot in slots
            for submit, stream in slot.worker.owners.items()
        }
        return Service(cameras, served, slots[0].worker.timeline.schedule(), owners)


def _open(device: Device, options: Mapping[str, object]) -> Context:
    if TIME.keys() <= discover().drivers[device.driver].options.keys():
        context = open_device(SIMULATED + device.chip, {**options, **TIME})[1]
        if context is not None and context.timeline is not None:
            return context
    raise DriverUnavailable(
        f"{device.chip}: the simulator of driver {device.driver} has no modelled time, must have it"
        " to serve streams"
    )


class _Worker:
    """An opened device; `owners` maps the number of a submit to the camera of its frame."""

    def __init__(self, context: Context) -> None:
        assert context.timeline is not None, "_open checked it"
        self.context, self.timeline = context, context.timeline
        self.owners: dict[int, int] = {}


class _Buffers:
    """A program with one set of buffers, which one inference uses at a time.

    `free` is the time at which the last inference left it; `waiting` are the slots that wait for
    it.
    """

    def __init__(self, worker: _Worker, program: Program, into: float, out: float) -> None:
        self._worker, self._into, self._out = worker, into, out
        self._executable = worker.context.load(program)
        self._inputs = [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs]
        self.free, self.held = 0.0, False
        self.waiting: collections.deque[int] = collections.deque()

    def infer(self, now: float, stream: int) -> Iterator[float | None]:
        """Run an inference that starts at `now`; yield the time of the next step, or None to wait
        for the buffers.
        """
        while self.held:
            yield None
        self.held = True
        submit = max(now, self.free) + self._into
        yield submit
        worker = self._worker
        worker.timeline.clock.until(submit)
        worker.context.submit(self._executable, self._inputs).wait()
        last = worker.timeline.schedule().runs[-1].submit  # several with TEFLON_DEBUG=sync
        worker.owners |= dict.fromkeys(range(len(worker.owners), last + 1), stream)
        self.free, self.held = worker.timeline.clock.now + self._out, False
        yield self.free


@dataclass(frozen=True)
class _Stage:
    """Milliseconds of the host, then a program on the chip; the last stage has no program."""

    host: float
    buffers: _Buffers | None = None


def _stages(artefact: Artefact, cost: Estimate, worker: _Worker) -> list[_Stage]:
    """Return the stages of an inference, and load the chip's programs."""
    stages: list[_Stage] = []
    host = 0.0
    for part, program in zip(artefact.plan.partitions, artefact.programs, strict=True):
        steps = [step for step in cost.steps if step.partition == part.index]
        if part.device or program is None:
            host += _milliseconds(steps)
            continue
        on_chip = [n for n, step in enumerate(steps) if step.cost.engine != HOST]
        first = on_chip[0] if on_chip else len(steps)
        out = [step for step in steps[first:] if step.cost.engine == HOST]
        ends = _milliseconds(steps[:first]), _milliseconds(out)
        stages.append(_Stage(host, _Buffers(worker, program, *ends)))
        host = 0.0
    return [*stages, _Stage(host)]


def _milliseconds(steps: Sequence[Step]) -> float:
    return sum(step.cost.total_ms for step in steps)


@dataclass(frozen=True)
class _Slot:
    """A thread of a worker: it runs one inference at a time."""

    worker: _Worker
    stages: Sequence[_Stage]

    def infer(self, now: float, stream: int) -> Iterator[float | _Buffers]:
        """Run an inference that starts at `now`; yield the time of the next step, or the buffers
        for which it must wait.
        """
        for stage in self.stages:
            now += stage.host
            yield now
            if stage.buffers is not None:
                for following in stage.buffers.infer(now, stream):
                    yield stage.buffers if following is None else following
                    now = following or now


class _Queues:
    """The frames of all cameras, a queue for each; cameras take turns."""

    def __init__(self, arrivals: Sequence[Sequence[float]]) -> None:
        self._arrivals = [list(reversed(times)) for times in arrivals]
        self._turns = [0] * len(arrivals)
        self._count = 0

    def next_arrival(self) -> float | None:
        return min((times[-1] for times in self._arrivals if times), default=None)

    def take(self, now: float) -> tuple[int, float] | None:
        """Return (camera, arrival) of the next frame; None if no frame waits."""
        waiting = [s for s, times in enumerate(self._arrivals) if times and times[-1] <= now]
        if not waiting:
            return None
        stream = min(waiting, key=lambda s: (self._turns[s], s))
        times = self._arrivals[stream]
        while len(times) > WAITING and times[-1 - WAITING] <= now:
            times.pop()
        self._count += 1
        self._turns[stream] = self._count
        return stream, times.pop()


@dataclass
class _Frame:
    stream: int
    arrival: float
    start: float
    course: Iterator[float | _Buffers]


class _Loop:
    """Runs all events in the order of time; the agenda has pairs (time, number of the slot)."""

    def __init__(self, cameras: Cameras, slots: Sequence[_Slot]) -> None:
        self._slots = slots
        self._queues = _Queues(cameras.arrivals())
        self._agenda = [(0.0, number) for number in range(len(slots))]
        self._running: list[_Frame | None] = [None] * len(slots)
        buffers = [stage.buffers for slot in slots for stage in slot.stages if stage.buffers]
        self._buffers = {id(each): each for each in buffers}
        self.served: list[ServedFrame] = []

    def run(self) -> None:
        while self._agenda:
            now, number = heapq.heappop(self._agenda)
            frame = self._running[number] or self._take(now, number)
            if frame is None:
                continue
            following = next(frame.course, None)
            if following is None:
                self._running[number], following = None, now
                served = ServedFrame(frame.stream, number, frame.arrival, frame.start, now)
                self.served.append(served)
            if isinstance(following, _Buffers):
                following.waiting.append(number)
            else:
                heapq.heappush(self._agenda, (following, number))
            self._wake()

    def _take(self, now: float, number: int) -> _Frame | None:
        """Start a frame in a slot; if no frame waits, try again when the next one arrives."""
        if (found := self._queues.take(now)) is not None:
            stream, arrival = found
            frame = _Frame(stream, arrival, now, self._slots[number].infer(now, stream))
            self._running[number] = frame
            return frame
        if (arrival_of_next := self._queues.next_arrival()) is not None:
            heapq.heappush(self._agenda, (arrival_of_next, number))
        return None

    def _wake(self) -> None:
        """Continue the first slot that waits for buffers, if these are free again."""
        for each in self._buffers.values():
            if each.waiting and not each.held:
                heapq.heappush(self._agenda, (each.free, each.waiting.popleft()))


def _run(cameras: Cameras, slots: Sequence[_Slot]) -> tuple[ServedFrame, ...]:
    loop = _Loop(cameras, slots)
    loop.run()
    return tuple(sorted(loop.served, key=lambda f: f.start))
