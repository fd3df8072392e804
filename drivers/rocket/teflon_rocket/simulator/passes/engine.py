# Ref: docs/hardware/rocket_vendor.md §1 (LUT sequence), §2 (elementwise, copies, resize nearest)
"""Runs passes of the DPU on device memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from teflon import workers
from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_rocket.chips import Chip
from teflon_rocket.registers import DPU, DPU_RDMA

from .. import _units, operands, post
from ..clock import Work
from ..cube import ATOM
from ..engine import Core, Engine
from ..policy import Policy
from ..registerfile import RegisterFile
from ..tables import Tables
from . import functions
from .clock import work
from .task import PassTask, plan
from .turns import Turn, turned_bytes

_WORTH_THREADS = 1 << 20
"""Bytes of a pass from which on its rows are shared between threads."""
_PIXELS = 4
"""At the end of the last row of the first surface; `touch` makes them zero."""
_OVERLAP_WORK = 1 << 12
"""How long numpy may search for a byte that is read and written."""


@dataclass(frozen=True)
class _Ready:
    """A task's arithmetic and its results for all bytes, and what they were made from.

    results: None where streams and an operand make them too many.
    """

    streams: tuple[bytes, bytes]
    arithmetic: post.Arithmetic
    results: NDArray[np.int8] | None


class PassEngine(Engine[PassTask]):
    """Runs the DPU and its readers without the convolution."""

    title = "pass of the DPU"
    units = (DPU, DPU_RDMA)

    def __init__(self, chip: Chip, memory: DeviceMemory, policy: Policy) -> None:
        super().__init__(chip, memory, policy)
        self._ready: dict[PassTask, _Ready] = {}

    def plan(self, registers: RegisterFile) -> PassTask:
        return plan(registers, self.chip, self.policy)

    def work(self, task: PassTask, address: int, count: int) -> Work:
        return work(task, address, count)

    def forget(self) -> None:
        self._ready.clear()

    def run(self, task: PassTask, state: Core) -> None:
        read = task.read
        source = read.main.view(self.memory, read.surfaces, read.height, read.width)
        operand = None
        if read.operand is not None:
            operand = read.operand.view(self.memory, read.surfaces, read.height, read.width)
        outs = self._outs(task)
        for name, part in ((read.main.name, source), ("DPU_RDMA.RDMA_EW_BASE_ADDR", operand)):
            if part is not None:
                _check_overlap(part, outs, name)
        if task.turn is Turn.BYTES:
            outs[0][...] = turned_bytes(source)
        elif task.copies:
            for out in outs:
                _remap(source, None, None, out)
        else:
            ready = self._prepared(task, post.need_tables(task.dpu, state.tables))
            if ready.results is None:
                _general(ready.arithmetic, source, operand, outs[0])
            else:
                _remap(source, operand, ready.results, outs[0])
        if task.loads is not None:
            state.tables = task.loads

    def touch(self, task: PassTask, state: Core) -> None:
        self._outs(task)[0][0, -1, -_PIXELS:] = 0
        if task.loads is not None:
            state.tables = task.loads

    def _outs(self, task: PassTask) -> list[NDArray[np.int8]]:
        """Return where pixels go, int8 [surface, row, column, 16], for each repetition of them."""
        times, write = task.read.repeat, task.dpu.write
        whole = self.memory.strided(
            write.address,
            (task.surfaces, times, task.dpu.height, task.dpu.width, ATOM),
            (write.surface_bytes, task.line_bytes, write.row_bytes, write.pixel_bytes, 1),
            np.int8,
            "DPU.DST_BASE_ADDR",
        )
        return [whole[:, row, :, column::times] for row in range(times) for column in range(times)]

    def _prepared(self, task: PassTask, tables: Tables | None) -> _Ready:
        """Return the task's results; they are made again only when what they need has changed."""
        streams = task.bs.fetch(self.memory), task.bn.fetch(self.memory)
        ready = self._ready.get(task)
        if ready is not None and ready.streams == streams and ready.arithmetic.tables == tables:
            return ready
        read = operands.read(*streams, (task.bs, task.bn))
        arithmetic = functions.arithmetic(task.dpu, read, tables)
        results = None
        if task.dpu.ew is None or streams == (b"", b""):
            results = functions.results(arithmetic)
        ready = self._ready[task] = _Ready(streams, arithmetic, results)
        return ready


def _remap(
    source: NDArray[np.int8],
    operand: NDArray[np.int8] | None,
    results: NDArray[np.int8] | None,
    out: NDArray[np.int8],
) -> None:
    pieces = workers.rows(out.shape[1], 1 if out.size < _WORTH_THREADS else workers.COUNT)

    def part(rows: range) -> None:
        taken = slice(rows.start, rows.stop)
        other = None if operand is None else operand[:, taken]
        _units.remap(source[:, taken], other, results, out[:, taken])

    workers.shared(part, pieces)


def _general(
    arithmetic: post.Arithmetic,
    source: NDArray[np.int8],
    operand: NDArray[np.int8] | None,
    out: NDArray[np.int8],
) -> None:
    """Compute all stages for every byte: operands per channel and per pixel at once."""
    surfaces, height, width, _ = out.shape
    step = max(_WORTH_THREADS // max(out[:, 0].size, 1), 1)
    for first in range(0, height, step):
        rows = slice(first, first + step)
        other = None if operand is None else post.to_matrix(operand[:, rows])
        made = post.values(arithmetic, post.to_matrix(source[:, rows]), other)
        out[:, rows] = made.reshape(-1, width, surfaces, ATOM).transpose(2, 0, 1, 3)


def _check_overlap(source: NDArray[np.int8], outs: list[NDArray[np.int8]], name: str) -> None:
    """Raise SimulatorFault where a pass writes what it reads, except each pixel in its place."""
    for out in outs:
        same = source.shape == out.shape and source.strides == out.strides
        if not np.may_share_memory(source, out) or (same and _start(source) == _start(out)):
            continue
        if _shares(source, out):
            raise SimulatorFault(
                f"{name}: the pass writes pixels that it reads in another place, must not (which"
                " comes first is not known)"
            )


def _start(array: NDArray[np.int8]) -> int:
    return int(array.__array_interface__["data"][0])


def _shares(first: NDArray[np.int8], second: NDArray[np.int8]) -> bool:
    pixels = first.view("V16")[..., 0], second.view("V16")[..., 0]
    try:
        return np.shares_memory(*pixels, max_work=_OVERLAP_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True
