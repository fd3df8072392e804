# Ref: docs/hardware/rocket.md §1.2 (enable mask), §6.2 (weight reuse), §8 (semantics)
"""The simulated NPU: executes command lists on device memory.

Reads only what the hardware would read. Whatever is undefined, not documented or not modelled
raises SimulatorFault naming register, task and operation.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from teflon import workers
from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import Chip

from . import cna, core, post, rdma
from .clock import Work, work
from .cube import ATOM, Weights
from .policy import STRICT, Deviation, Policy
from .task import Task, plan

_PLANS = 4096
"""Decoded command lists that are kept."""
_READY = 1024
"""Prepared weights that are kept."""


_WORTH_THREADS = 2_000_000
"""Multiply-accumulates of a task from which on its rows are shared between threads."""


@dataclass
class Core:
    """What stays in one core between tasks: the weights in its buffer."""

    weights: Weights | None = None


@dataclass(frozen=True)
class _Ready:
    """Prepared weights, and the bytes and compensation that they were made from."""

    raw: NDArray[np.uint8]
    compensation: bytes
    kernels: core.Kernels


@dataclass(frozen=True)
class _Stages:
    """A task's arithmetic, and the stream and weights that it was made for."""

    stream: bytes
    kernels: core.Kernels
    arithmetic: post.Arithmetic
    loop: post.Loop | None


@dataclass(frozen=True)
class Observation:
    """A tolerated breach and where it happened."""

    where: str
    deviation: Deviation


@dataclass
class Machine:
    """A chip's cores on one device address space."""

    chip: Chip
    memory: DeviceMemory
    policy: Policy = STRICT
    observations: list[Observation] = field(default_factory=list)
    """What a lenient policy tolerated, in order."""
    tasks: int = 0
    macs: int = 0

    def __post_init__(self) -> None:
        self._cores = [Core() for _ in range(self.chip.cores)]
        self._plans: dict[bytes, Task] = {}
        self._works: dict[tuple[int, bytes], Work] = {}
        self._ready: dict[Weights, _Ready] = {}
        self._arithmetic: dict[Task, _Stages] = {}

    def run_task(self, regcmd_address: int, count: int, core: int = 0, where: str = "task") -> None:
        """Execute the list of `count` 64-bit commands at an address on one core.

        Raises SimulatorFault, its text starting with `where`.
        """
        try:
            task = self.decode(regcmd_address, count)
            self.observations += [Observation(where, d) for d in task.deviations]
            if not task.empty:
                self.execute(task, self._cores[core])
        except SimulatorFault as fault:
            raise SimulatorFault(f"{where}: {fault}") from fault
        self.tasks += 1
        self.macs += task.macs

    def work(self, regcmd_address: int, count: int) -> Work:
        """Return what a command list costs and touches, without running it.

        Raises SimulatorFault where it cannot be decoded.
        """
        data = self._commands(regcmd_address, count)
        found = self._works.get((regcmd_address, data))
        if found is None:
            if len(self._works) >= _PLANS:
                self._works.clear()
            found = work(self._plan(data), regcmd_address, count, self.chip)
            self._works[regcmd_address, data] = found
        return found

    def decode(self, regcmd_address: int, count: int) -> Task:
        """Decode and check a command list without running it."""
        return self._plan(self._commands(regcmd_address, count))

    def _commands(self, address: int, count: int) -> bytes:
        if count < 1:
            raise SimulatorFault(f"regcmd_count is {count}, must be at least 1")
        return self.memory.view(address, 8 * count, "PC.BASE_ADDRESS").tobytes()

    def _plan(self, data: bytes) -> Task:
        task = self._plans.get(data)
        if task is None:
            if len(self._plans) >= _PLANS:
                self._plans.clear()
                self._arithmetic.clear()
            task = self._plans[data] = plan(data, self.chip, self.policy)
        return task

    def keep_weights(self, task: Task, state: Core) -> None:
        """Leave the task's weights in the core; raises SimulatorFault where others were wanted."""
        weights = task.cna.weights
        if task.cna.reuse and state.weights != weights:
            raise SimulatorFault(
                f"CNA.CBUF_CON0: WEIGHT_REUSE of weights at #{weights.address:08x}, but the task"
                f" before on this core left {_described(state.weights)}"
            )
        state.weights = weights

    def execute(self, task: Task, state: Core) -> None:
        """Do what a task that is not empty says."""
        self.keep_weights(task, state)
        stages = self._stages(task)
        features = cna.fetch_features(task.cna.features, self.memory)
        surfaces = -(-task.dpu.channels // ATOM)
        width, height = task.dpu.width, task.dpu.height
        operand = None
        if task.rdma.operand is not None:
            operand = rdma.fetch_operand(task.rdma.operand, surfaces, width, height, self.memory)
        out = self.memory.strided(
            task.dpu.address,
            (surfaces, height, width, ATOM),
            (task.dpu.surface_bytes, width * ATOM, ATOM, 1),
            np.int8,
            "DPU.DST_BASE_ADDR",
        )
        accumulator = core.Accumulator(features, task.cna.window, stages.kernels, width, height)
        if stages.loop is None or stages.kernels.wide:
            for rows in workers.rows(height, -(-task.macs // _WORTH_THREADS)):
                sums = accumulator.sums(rows)
                post.process(stages.arithmetic, rows, sums, operand, out)
            return
        loop = stages.loop.with_operand(operand)
        pieces = workers.rows(height, 1 if task.macs < _WORTH_THREADS else workers.COUNT)
        workers.shared(lambda rows: accumulator.process(rows, loop, out), pieces)

    def _stages(self, task: Task) -> _Stages:
        """The task's arithmetic, made ready once for as long as what it reads stays the same."""
        channels = task.dpu.channels
        stream = rdma.fetch_stream(task.rdma, channels, self.memory)
        ready = self._arithmetic.get(task)
        if ready is not None and ready.stream == stream:
            operands = ready.arithmetic.operands
        else:
            ready, operands = None, rdma.read_channels(stream, task.rdma.bs_use, channels)
        kernels = self._kernels(task, operands)
        if ready is not None and ready.kernels is kernels:
            return ready
        arithmetic = post.Arithmetic(task.core, task.dpu, operands)
        reach = post.check_range(arithmetic, kernels.bound)
        made = _Stages(stream, kernels, arithmetic, post.loop(arithmetic, reach))
        self._arithmetic[task] = made
        return made

    def _kernels(self, task: Task, operands: rdma.ChannelOperands) -> core.Kernels:
        """The task's weights, made ready once for as long as their bytes stay the same."""
        weights = task.cna.weights
        raw = self.memory.view(weights.address, weights.size, "CNA.DCOMP_ADDR0")
        compensation = _compensation(task, operands)
        ready = self._ready.get(weights)
        if (
            ready is not None
            and ready.compensation == compensation.tobytes()
            and np.array_equal(ready.raw.view(np.uint64), raw.view(np.uint64))
        ):
            return ready.kernels
        decoded = cna.fetch_weights(weights, self.chip, raw)
        kernels = core.prepare(decoded, compensation, weights.depthwise)
        if len(self._ready) >= _READY:
            self._ready.clear()
        self._ready[weights] = _Ready(raw.copy(), compensation.tobytes(), kernels)
        return kernels


def _compensation(task: Task, operands: rdma.ChannelOperands) -> NDArray[np.int64]:
    """OW, one number or one per kernel."""
    value = task.dpu.compensation
    if value == "stream" and operands.compensation is not None:
        lanes = task.cna.weights.channels if task.core.depthwise else task.cna.weights.kernels
        out = np.zeros(lanes, np.int64)
        out[: len(operands.compensation)] = operands.compensation
        return out
    return np.array([value or 0], np.int64)


def _described(weights: Weights | None) -> str:
    if weights is None:
        return "none"
    return f"{weights.size} bytes from #{weights.address:08x}"
