"""Moves of parts of an image: cut out, surrounded, thinned out, or spread over another one.

Ref: docs/hardware/etnaviv.md sections 3.2 (strides, loops), 5.2 and 5.3 (strides and loops that
skip bytes), 5.4 (padding), 8.3
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tensors import Box
from teflon_etnaviv.tp.operation import OTHERS_FOLLOW, TP, shares

Sides = tuple[int, int]
"""Amounts along (x, y)."""


@dataclass(frozen=True)
class Steps:
    """How the elements of an image lie in a tensor, in bytes: the first one, and the distances of
    its columns, rows and planes.
    """

    start: int
    x: int
    y: int
    z: int


@dataclass(frozen=True, eq=False)
class Move(TP):
    """Reads an image and writes it with padding around it; the jobs share its planes.

    size: (x, y, z) of what is read, whose columns lie side by side. before, after: padding.
    fill: the byte that padding gets, the zero point of the input where it is None.
    """

    detail: ClassVar[str] = "move"
    mark: ClassVar[int] = OTHERS_FOLLOW

    size: Box
    read: Steps
    write: Steps
    before: Sides = (0, 0)
    after: Sides = (0, 0)
    fill: int | None = None
    jobs: int = 1

    def compile(self, chip: Chip) -> Compiled:
        x, y, z = self.size
        out_x, out_y = (n + b + a for n, b, a in zip((x, y), self.before, self.after, strict=True))
        zero = self.inputs[0].zero_point if self.fill is None else self.fill
        jobs = []
        for share in shares(z, self.jobs):
            instruction = TPInstruction(
                in_image_x_size=x,
                in_image_y_size=y,
                in_image_z_size=share.planes,
                in_image_stride=self.read.y,
                in_image_slice=self.read.z,
                in_window_x_start=-self.before[0],
                in_window_y_start=-self.before[1],
                in_window_x_end=x - 1 + self.after[0],
                in_window_y_end=y - 1 + self.after[1],
                in_tile_x_size=out_x,
                in_tile_y_size=out_y,
                in_tile_x_inc=out_x,
                in_tile_y_inc=out_y,
                no_flush=not share.is_last,
                out_loop_0_inc=0,
                out_loop_0_count=1,
                out_loop_1_inc=self.write.x,
                out_loop_1_count=out_x,
                out_loop_2_inc=self.write.y,
                out_loop_2_count=out_y,
                out_loop_6_inc=self.write.z,
                in_zp=zero,
                out_zp=zero,
            )
            first = share.first
            source = self.read.start + first * self.read.z
            jobs.append(Job(instruction, source, self.write.start + first * self.write.z))
        return Compiled(tuple(jobs))


_WINDOW_MAX = 0x7FFF  # in_window_x_end and in_window_y_end are signed


def scanned(height: int, width: int, planes: int) -> tuple[int, int] | None:
    """Return rows and columns as which planes that follow one another are read; None where no cut
    fits the fields.

    Elements are counted, so how they are cut is free. Ref: docs/hardware/etnaviv.md section 5.2
    """
    sizes = (n for n in range(1, height + 1) if height % n == 0)
    found = ((n * planes, height // n * width) for n in sizes)
    return next((pair for pair in found if max(pair) <= _WINDOW_MAX), None)


@dataclass(frozen=True, eq=False)
class Interleave(TP):
    """Depth to space: the planes of each group become the pixels of blocks; jobs share the groups.

    size: (x, y, z) of an input plane, and the number of groups. With blocks of `step` = (s, t) rows
    and columns, plane (c s + y) t + x gives the pixels at row y and column x of blocks of plane c.
    Ref: docs/hardware/etnaviv_vendor.md, engine chosen by the vendor (resize by depth to space)
    """

    detail: ClassVar[str] = "spread"
    mark: ClassVar[int] = OTHERS_FOLLOW

    size: Box
    step: tuple[int, int]
    jobs: int = 1

    def compile(self, chip: Chip) -> Compiled:
        (x, y, z), (down, across) = self.size, self.step
        group = x * y * down * across
        shape = scanned(y, x, down * across)
        assert shape is not None, "a rule asks for it"
        rows, columns = shape
        zero = self.inputs[0].zero_point
        jobs = []
        for share in shares(z, self.jobs):
            instruction = TPInstruction(
                in_image_x_size=columns,
                in_image_y_size=rows,
                in_image_z_size=share.planes,
                in_image_stride=columns,
                in_image_slice=group,
                in_window_x_end=columns - 1,
                in_window_y_end=rows - 1,
                in_tile_x_size=columns,
                in_tile_y_size=rows,
                in_tile_x_inc=columns,
                in_tile_y_inc=rows,
                no_flush=not share.is_last,
                out_loop_0_inc=across,
                out_loop_0_count=x,
                out_loop_1_inc=down * across * x,
                out_loop_1_count=y,
                out_loop_2_inc=1,
                out_loop_2_count=across,
                out_loop_3_inc=across * x,
                out_loop_3_count=down,
                out_loop_6_inc=group,
                in_zp=zero,
                out_zp=zero,
            )
            jobs.append(Job(instruction, share.first * group, share.first * group))
        return Compiled(tuple(jobs))
