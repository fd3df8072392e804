# Ref: docs/hardware/rocket.md §1.6 (an open file is one entity of the scheduler)
"""What the fake kernel keeps for open files and for the jobs in their queues."""

from __future__ import annotations

import collections
import itertools
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from teflon.errors import SimulatorFault
from teflon.timing.schedule import Clock, Run
from teflon_common.fake_drm import BufferObject, FakeFile
from teflon_common.fake_fences import Fence as SharedFence
from teflon_common.fake_fences import new_context
from teflon_common.memory import DeviceMemory
from teflon_rocket import uapi
from teflon_rocket.addresses import addresses
from teflon_rocket.simulator.clock import NOTHING, Work


class TaskRunner(Protocol):
    """What the kernel needs of `Machine`."""

    def run_task(
        self, regcmd_address: int, count: int, core: int = 0, where: str = "task"
    ) -> object:
        """Run one command list of `count` words. Raises SimulatorFault."""

    def work(self, regcmd_address: int, count: int) -> Work:
        """Return what it costs and touches by the model of time; by default nothing."""
        return NOTHING

    def interrupts(self, regcmd_address: int, count: int) -> int:
        """Return the bits of PC.INTERRUPT_STATUS that its end raises; by default the DPU's."""
        return uapi.WAITED

    def tolerated(self) -> Mapping[str, str]:
        """Return, and forget, what a lenient policy tolerated since the last call: rule -> text."""
        return {}


@dataclass
class Fence:
    """The end of one job: signalled once, with the fault that ended it if one did.

    `end` is when the job ends in modelled time.
    """

    end: float
    signalled: bool = False
    fault: SimulatorFault | None = None


@dataclass
class QueuedJob:
    """A job that passed validation; it holds a reference to every buffer that it lists.

    Its fence is the write fence of its out-buffers. Where buffers are shared (`shared`: the same
    fence as others see it), it waits for the fences in `waits`; without that it need not, as the
    jobs of a file run in order.
    """

    where: str
    submit: int
    tasks: list[uapi.Task]
    reads: list[BufferObject]
    writes: list[BufferObject]
    run: Run
    names: tuple[str, ...]  # of the tasks' operations; () where they are not known
    fence: Fence
    shared: tuple[SharedFence, Future[None]] | None = None
    waits: list[SharedFence] = field(default_factory=list)

    def operation(self, number: int) -> str:
        """Return the name of a task's operation, or of the job where it is not known."""
        return self.names[number] if number < len(self.names) else self.run.name

    @property
    def buffers(self) -> list[BufferObject]:
        return self.reads + self.writes


class RocketFile(FakeFile):
    """An open file: its memory as the NPU sees it, its machine, and its queue of jobs.

    One file is one scheduler entity: its jobs run strictly in order, on one core at a time.
    `clock` is the modelled time of the program that opened it. `patience` is when the queue of a
    file that nobody has open is cut (time.monotonic), None while it is open.
    """

    def __init__(
        self, base: FakeFile, machine: Callable[[DeviceMemory], TaskRunner], number: int
    ) -> None:
        super().__init__(base.space)
        self.number = number
        self.clock = Clock()
        self.memory = DeviceMemory()
        self.machine = machine(self.memory)
        self.queue: collections.deque[QueuedJob] = collections.deque()
        self.worker: threading.Thread | None = None
        self.submits = 0
        self.failed: tuple[int, SimulatorFault] | None = None
        self.patience: float | None = None
        self._context, self._count = new_context(), itertools.count(1)

    def shared_fence(self, timeline: str) -> tuple[SharedFence, Future[None]]:
        """Return a fence for the next job, the scheduler's for this file, and what signals it."""
        end: Future[None] = Future()
        number = next(self._count)
        return SharedFence(end, timeline=timeline, context=self._context, number=number), end

    def cut(self) -> bool:
        """Whether jobs that have not begun are dropped: the flush of the closed file is over."""
        return self.patience is not None and time.monotonic() >= self.patience


def needs(memory: DeviceMemory, job: QueuedJob, bo: BufferObject) -> bool:
    """Whether a job's command lists lie in a buffer or name an address in it."""
    end = bo.address + bo.mapped_bytes
    for task in job.tasks:
        if bo.address <= task.regcmd < end:
            return True
        if (mapping := memory.find(task.regcmd)) is None:
            continue  # running it is a fault of its own
        start = task.regcmd - mapping.address
        commands = mapping.data[start : start + 8 * task.regcmd_count]
        if any(bo.address <= address < end for _, _, address in addresses(commands)):
            return True
    return False
