# Ref: docs/hardware/rocket.md §6.2 (weight reuse), §8 (semantics)
"""Runs convolutions on device memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon import workers
from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import Chip
from teflon_rocket.registers import CNA, CORE, DPU, DPU_RDMA

from .. import cna, core, post, rdma
from ..clock import Work
from ..cube import ATOM, Weights
from ..engine import Core, Engine
from ..features import fetch_features
from ..policy import Policy
from ..registerfile import RegisterFile
from ..weights import fetch_weights
from .clock import work
from .task import ConvolutionTask, plan

_READY = 1024
"""Prepared weights that are kept."""
_WORTH_THREADS = 2_000_000
"""Multiply-accumulates of a task from which on its rows are shared between threads."""
_PIXELS = 4
"""At the end of the first surface that a task would write; `touch` makes them zero."""


@dataclass(frozen=True)
class _Ready:
    """Prepared weights, and the bytes and the compensation that they were made from."""

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


class ConvolutionEngine(Engine[ConvolutionTask]):
    """Runs CNA, CORE, DPU and its reader for one task after the other."""

    title = "convolution"
    units = (CNA, CORE, DPU, DPU_RDMA)

    def __init__(self, chip: Chip, memory: DeviceMemory, policy: Policy) -> None:
        super().__init__(chip, memory, policy)
        self._ready: dict[Weights, _Ready] = {}
        self._arithmetic: dict[ConvolutionTask, _Stages] = {}

    def plan(self, registers: RegisterFile) -> ConvolutionTask:
        return plan(registers, self.chip, self.policy)

    def work(self, task: ConvolutionTask, address: int, count: int) -> Work:
        return work(task, address, count, self.chip)

    def forget(self) -> None:
        self._arithmetic.clear()

    def run(self, task: ConvolutionTask, state: Core) -> None:
        self._keep_weights(task, state)
        stages = self._stages(task)
        window = task.cna.window
        features = cna.spread(fetch_features(task.cna.features, self.memory), window)
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
        accumulator = core.Accumulator(features, window, stages.kernels, width, height)
        if stages.loop is None or stages.kernels.wide:
            for rows in workers.rows(height, -(-task.macs // _WORTH_THREADS)):
                sums = accumulator.sums(rows)
                post.process(stages.arithmetic, rows, sums, operand, out)
            return
        loop = stages.loop.with_operand(operand)
        pieces = workers.rows(height, 1 if task.macs < _WORTH_THREADS else workers.COUNT)
        workers.shared(lambda rows: accumulator.process(rows, loop, out), pieces)

    def touch(self, task: ConvolutionTask, state: Core) -> None:
        self._keep_weights(task, state)
        surface = task.dpu.width * task.dpu.height * ATOM
        others = -(-task.dpu.channels // ATOM) - 1
        whole = others * task.dpu.surface_bytes + surface
        written = self.memory.view(task.dpu.address, whole, "DPU.DST_BASE_ADDR")
        written[max(surface - _PIXELS * ATOM, 0) : surface] = 0

    def _keep_weights(self, task: ConvolutionTask, state: Core) -> None:
        """Leave the task's weights in the core; raises SimulatorFault where others were wanted."""
        weights = task.cna.weights
        if task.cna.reuse and state.weights != weights:
            raise SimulatorFault(
                f"CNA.CBUF_CON0: WEIGHT_REUSE of weights at #{weights.address:08x}, but the task"
                f" before on this core left {_described(state.weights)}"
            )
        state.weights = weights

    def _stages(self, task: ConvolutionTask) -> _Stages:
        """Return the task's arithmetic; it is made again only when what it reads has changed."""
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

    def _kernels(self, task: ConvolutionTask, operands: rdma.ChannelOperands) -> core.Kernels:
        """Return the task's weights, prepared; that is done again only when their bytes changed."""
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
        decoded = fetch_weights(weights, self.chip, raw)
        kernels = core.prepare(decoded, compensation, weights.depthwise)
        if len(self._ready) >= _READY:
            self._ready.clear()
        self._ready[weights] = _Ready(raw.copy(), compensation.tobytes(), kernels)
        return kernels


def _compensation(task: ConvolutionTask, operands: rdma.ChannelOperands) -> NDArray[np.int64]:
    """Return OW: one number, or one for each kernel."""
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
