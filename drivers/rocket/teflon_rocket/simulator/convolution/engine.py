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

from .. import cna, core, loops, post, rdma
from .. import operands as per_channel
from ..clock import Work
from ..cube import ATOM, Weights
from ..engine import Core, Engine
from ..features import fetch_features
from ..policy import Policy
from ..ranges import check_range
from ..registerfile import RegisterFile
from ..tables import Tables
from ..weights import fetch_weights
from .clock import work
from .task import ConvolutionTask, plan

_READY = 1024
"""Prepared weights that are kept."""
_WORTH_THREADS = 2_000_000
"""Multiply-accumulates of a task from which on its rows are shared between threads."""
_PIXELS = 4
"""At the end of the last row of the first surface; `touch` makes them zero."""


@dataclass(frozen=True)
class _Ready:
    """Prepared weights, and the bytes and the compensation that they were made from."""

    raw: NDArray[np.uint8]
    compensation: bytes
    kernels: core.Kernels


@dataclass(frozen=True)
class _Stages:
    """A task's arithmetic, and the streams and weights that it was made for."""

    streams: tuple[bytes, bytes]
    kernels: core.Kernels
    arithmetic: post.Arithmetic
    loop: loops.Loop | None


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
        stages = self._stages(task, post.need_tables(task.dpu, state.tables))
        window = task.cna.window
        fetched = fetch_features(task.cna.features, self.memory)
        features = cna.seen(fetched, window, task.dpu.height, task.dpu.width)
        surfaces = -(-task.dpu.channels // ATOM)
        width, height = task.dpu.width, task.dpu.height
        operand = None
        if task.rdma.operand is not None:
            operand = rdma.fetch_operand(task.rdma.operand, surfaces, width, height, self.memory)
        place = task.dpu.write.view(self.memory, surfaces, height, width)
        out = place if task.dpu.write.adjacent(width) else np.empty(place.shape, np.int8)
        accumulator = core.Accumulator(features, window, stages.kernels, width, height)
        if stages.loop is None or stages.kernels.wide:
            for rows in workers.rows(height, -(-task.macs // _WORTH_THREADS)):
                sums = accumulator.sums(rows)
                post.process(stages.arithmetic, rows, sums, operand, out)
        else:
            loop = stages.loop.with_operand(operand)
            pieces = workers.rows(height, 1 if task.macs < _WORTH_THREADS else workers.COUNT)
            try:
                workers.shared(lambda rows: accumulator.process(rows, loop, out), pieces)
            except OverflowError as error:
                raise post.too_large(int(str(error))) from error
        if out is not place:
            place[:] = out

    def touch(self, task: ConvolutionTask, state: Core) -> None:
        self._keep_weights(task, state)
        surfaces = -(-task.dpu.channels // ATOM)
        out = task.dpu.write.view(self.memory, surfaces, task.dpu.height, task.dpu.width)
        out[0, -1, -_PIXELS:] = 0

    def _keep_weights(self, task: ConvolutionTask, state: Core) -> None:
        """Leave the task's weights in the core; raises SimulatorFault where others were wanted."""
        weights = task.cna.weights
        if task.cna.reuse and state.weights != weights:
            raise SimulatorFault(
                f"CNA.CBUF_CON0: WEIGHT_REUSE of weights at #{weights.address:08x}, but the task"
                f" before on this core left {_described(state.weights)}"
            )
        state.weights = weights

    def _stages(self, task: ConvolutionTask, tables: Tables | None) -> _Stages:
        """Return the task's arithmetic; it is made again only when what it reads has changed."""
        streams = task.rdma.fetch_streams(self.memory)
        ready = self._arithmetic.get(task)
        if ready is not None and ready.streams == streams:
            operands = ready.arithmetic.operands
        else:
            ready, operands = None, per_channel.read(*streams, (task.rdma.bs, task.rdma.bn))
        kernels = self._kernels(task, operands)
        if (
            ready is not None
            and ready.kernels is kernels
            and ready.arithmetic.tables in (None, tables)
        ):
            return ready
        arithmetic = post.Arithmetic(task.core, task.dpu, operands, tables)
        reach = check_range(arithmetic, kernels.bound)
        made = _Stages(streams, kernels, arithmetic, loops.loop(arithmetic, reach))
        self._arithmetic[task] = made
        return made

    def _kernels(
        self, task: ConvolutionTask, operands: per_channel.ChannelOperands
    ) -> core.Kernels:
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


def _compensation(
    task: ConvolutionTask, operands: per_channel.ChannelOperands
) -> NDArray[np.int64]:
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
