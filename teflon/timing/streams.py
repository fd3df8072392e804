"""Cameras served by one chip, in modelled time: which frame runs when, and who waits how long.

A worker is what a pool has for each core: a device opened for itself, programs with their buffers,
threads. The chip's part is done on the simulated chip, which schedules jobs of all its open files
as the kernel does and keeps time; the host's part (conversions, what runs on the CPU) takes what
`teflon estimate` says, each thread having a CPU core for it.
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
"""Frames of a camera that may wait: an older one is left out for a newer one."""

TIME = {"simulate": "time"}
"""Option of drivers whose simulated chips can keep their time and leave the arithmetic."""


@dataclass(frozen=True)
class Cameras:
    """What is to be served: cameras that send frames at even distances, one after the other; and
    what serves them.

    workers: how often the device is opened. threads: inferences under way in each worker. copies:
    of the programs' buffers in each worker; an inference has one from its input to its outputs.
    """

    streams: int
    fps: float
    seconds: float = 4.0
    workers: int = 3
    threads: int = OVERLAPPING
    copies: int = OVERLAPPING

    def __post_init__(self) -> None:
        """Raise OptionError for what cannot be."""
        for name, value in vars(self).items():
            if value <= 0:
                raise OptionError(f"{name}: is {value}, must be more than 0")

    def arrivals(self) -> list[list[float]]:
        """Return the milliseconds at which each camera's frames come."""
        period = 1000 / self.fps
        return [
            [n * period + s * period / self.streams for n in range(round(self.seconds * self.fps))]
            for s in range(self.streams)
        ]


@dataclass(frozen=True)
class Served:
    """A frame: its camera and its slot (a thread of a worker); when it came, was taken and was
    done; milliseconds.
    """

    stream: int
    slot: int
    arrival: float
    taken: float
    done: float


@dataclass(frozen=True)
class Service:
    """What became of the frames. `owners`: the camera of each (file, submit) of the schedule."""

    cameras: Cameras
    served: tuple[Served, ...]
    schedule: Schedule
    owners: Mapping[tuple[int, int], int]

    def gantt(self, until: float) -> Gantt:
        """Return the picture of the first milliseconds: cores as lines, cameras in colours."""
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
            "format": 1,
            "chip": self.schedule.chip,
            **vars(self.cameras),
            "frames": len(self.served),
            "frames_per_second": self.rates(),
            "latency_ms": {"median": median, "95%": most},
            "utilisation": self.utilisation(),
        }

    def problems(self) -> list[str]:
        """Return what cannot be, of the schedule and of the frames."""
        found = self.schedule.problems()
        found += [f"{f}: is taken before it came" for f in self.served if f.taken < f.arrival]
        for slot in dict.fromkeys(f.slot for f in self.served):
            own = sorted((f for f in self.served if f.slot == slot), key=lambda f: f.taken)
            found += [f"{b}: is taken before {a} is done"
                      for a, b in pairwise(own) if b.taken < a.done]  # fmt: skip
        for stream in range(self.cameras.streams):
            came = [f.arrival for f in self.served if f.stream == stream]
            found += [f"camera {stream}: out of order"] if came != sorted(set(came)) else []
        return found


def serve(
    artefact: Artefact, cameras: Cameras, options: Mapping[str, object] | None = None
) -> Service:
    """Serve cameras with a compiled model on the simulated chip.

    options: the driver's. Deterministic. Raises DriverUnavailable where a driver's simulator keeps
    no time, or where nothing runs a part of the model.
    """
    cost = estimate(artefact)
    if cost.nowhere:
        raise DriverUnavailable(f"{cost.nowhere[0]}: nothing runs it, must run to be served")
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
        f"{device.chip}: driver {device.driver} simulates no modelled time, must keep it to serve"
        " streams"
    )


class _Worker:
    """An opened device; `owners` says which camera's frame each submit was for."""

    def __init__(self, context: Context) -> None:
        assert context.timeline is not None, "_open saw to it"
        self.context, self.timeline = context, context.timeline
        self.owners: dict[int, int] = {}


class _Buffers:
    """A program with its buffers: one inference at a time, from its first input to its outputs.

    `free` is when the last one is done with it; `parked` are the slots that wait for it.
    """

    def __init__(self, worker: _Worker, program: Program, into: float, out: float) -> None:
        self._worker, self._into, self._out = worker, into, out
        self._executable = worker.context.load(program)
        self._inputs = [np.zeros(kind.shape, kind.dtype.numpy) for kind in program.inputs]
        self.free, self.held = 0.0, False
        self.parked: collections.deque[int] = collections.deque()

    def infer(self, now: float, stream: int) -> Iterator[float | None]:
        """Run an inference from a time on; yield when to go on, None for when `parked` ends."""
        while self.held:
            yield None
        self.held = True
        begun = max(now, self.free) + self._into
        yield begun
        worker = self._worker
        worker.timeline.clock.until(begun)
        worker.context.submit(self._executable, self._inputs).wait()
        last = worker.timeline.schedule().runs[-1].submit  # TEFLON_DEBUG=sync makes several of one
        worker.owners |= dict.fromkeys(range(len(worker.owners), last + 1), stream)
        self.free, self.held = worker.timeline.clock.now + self._out, False
        yield self.free


@dataclass(frozen=True)
class _Stage:
    """Milliseconds on the host, then an inference on the chip; the last stage has none."""

    host: float
    buffers: _Buffers | None = None


def _stages(artefact: Artefact, cost: Estimate, worker: _Worker) -> list[_Stage]:
    """Return what an inference consists of, the chip's programs loaded."""
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
    """What has one inference under way: a thread of a worker."""

    worker: _Worker
    stages: Sequence[_Stage]

    def infer(self, now: float, stream: int) -> Iterator[float | _Buffers]:
        """Run an inference from a time on; yield when to go on, in the order of time, or what must
        be free before.
        """
        for stage in self.stages:
            now += stage.host
            yield now
            if stage.buffers is not None:
                for following in stage.buffers.infer(now, stream):
                    yield stage.buffers if following is None else following
                    now = following or now


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
    course: Iterator[float | _Buffers]


class _Loop:
    """Lets everything happen in the order of time: an agenda of (when, number of the slot)."""

    def __init__(self, cameras: Cameras, slots: Sequence[_Slot]) -> None:
        self._slots = slots
        self._queues = _Queues(cameras.arrivals())
        self._agenda = [(0.0, number) for number in range(len(slots))]
        self._flying: list[_Frame | None] = [None] * len(slots)
        buffers = [stage.buffers for slot in slots for stage in slot.stages if stage.buffers]
        self._buffers = {id(each): each for each in buffers}
        self.served: list[Served] = []

    def run(self) -> None:
        while self._agenda:
            now, number = heapq.heappop(self._agenda)
            frame = self._flying[number] or self._take(now, number)
            if frame is None:
                continue
            following = next(frame.course, None)
            if following is None:
                self._flying[number], following = None, now
                taken = frame.stream, number, frame.arrival, frame.taken
                self.served.append(Served(*taken, now))
            if isinstance(following, _Buffers):
                following.parked.append(number)
            else:
                heapq.heappush(self._agenda, (following, number))
            self._wake()

    def _take(self, now: float, number: int) -> _Frame | None:
        """Begin a frame; where none waits, come back when the next one comes."""
        if (taken := self._queues.take(now)) is not None:
            frame = _Frame(*taken, now, self._slots[number].infer(now, taken[0]))
            self._flying[number] = frame
            return frame
        if (coming := self._queues.next_arrival()) is not None:
            heapq.heappush(self._agenda, (coming, number))
        return None

    def _wake(self) -> None:
        """Let the first go on that waited for what is free again."""
        for each in self._buffers.values():
            if each.parked and not each.held:
                heapq.heappush(self._agenda, (each.free, each.parked.popleft()))


def _run(cameras: Cameras, slots: Sequence[_Slot]) -> tuple[Served, ...]:
    loop = _Loop(cameras, slots)
    loop.run()
    return tuple(sorted(loop.served, key=lambda f: f.taken))
