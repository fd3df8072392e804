# Ref: docs/hardware/rocket_vendor.md §0 findings 8, 13, 14, §2 (pooling)
"""Runs pooling on device memory."""

from __future__ import annotations

from dataclasses import dataclass

from teflon.errors import SimulatorFault
from teflon.timing.schedule import Span, merged
from teflon_rocket.registers import PPU, PPU_RDMA

from .. import cube
from ..clock import COMMAND_BYTES, Work, surfaces
from ..engine import Core, Engine, Task
from ..registerfile import FIELDS, RegisterFile, masks
from . import ppu, ppu_rdma

_INTERPRETED = masks(FIELDS, ppu.FIELDS, ppu_rdma.FIELDS)


@dataclass(frozen=True, eq=False, kw_only=True)
class PoolingTask(Task):
    """What the PPU and its reader do in one task."""

    source: ppu_rdma.Source
    pool: ppu.Pool


class PoolingEngine(Engine[PoolingTask]):
    """Runs the PPU and its reader for one task after the other."""

    title = "pooling"
    units = (PPU, PPU_RDMA)

    def plan(self, registers: RegisterFile) -> PoolingTask:
        registers.check(_INTERPRETED)
        source, pool = ppu_rdma.plan(registers), ppu.plan(registers)
        inside = (
            registers[PPU.DATA_CUBE_IN_HEIGHT].CUBE_IN_HEIGHT,
            registers[PPU.DATA_CUBE_IN_WIDTH].CUBE_IN_WIDTH,
        )
        if (source.surfaces, source.height, source.width) != (pool.surfaces, *inside):
            raise SimulatorFault(
                f"PPU_RDMA.RDMA_CUBE_IN_WIDTH: reads {source.surfaces} surfaces of"
                f" {source.height}x{source.width}, must be the PPU's {pool.surfaces} of"
                f" {inside[0]}x{inside[1]}"
            )
        return PoolingTask(source=source, pool=pool)

    def run(self, task: PoolingTask, state: Core) -> None:
        features = task.source.fetch(self.memory)
        task.pool.result(self.memory)[...] = task.pool.compute(features)

    def touch(self, task: PoolingTask, state: Core) -> None:
        task.pool.result(self.memory)[0, -1, -1] = 0

    def work(self, task: PoolingTask, address: int, count: int) -> Work:
        source, pool = task.source, task.pool
        read = _spans(source.address, source.surfaces, source.surface_bytes,
                      source.height, source.line_bytes, source.width)  # fmt: skip
        written = _spans(pool.address, pool.surfaces, pool.surface_bytes,
                         pool.size[0], pool.line_bytes, pool.size[1])  # fmt: skip
        commands = Span(address, address + COMMAND_BYTES * count)
        return Work(
            commands=COMMAND_BYTES * count,
            features=source.surfaces * source.height * source.width * cube.ATOM,
            written=pool.surfaces * pool.size[0] * pool.size[1] * cube.ATOM,
            reads=merged([commands, *read]),
            writes=merged(written),
        )


def _spans(
    address: int, count: int, surface: int, rows: int, line: int, columns: int
) -> list[Span]:
    """Return where the surfaces of a map lie, from the first row's begin to the last one's end."""
    return surfaces(address, count, surface, (rows - 1) * line + columns * cube.ATOM)
