"""Padding, and plain copies: padding by nothing.

Ref: docs/hardware/etnaviv.md section 5.4
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tensors import Box
from teflon_etnaviv.tp.operation import OTHERS_FOLLOW, TP, shares

NOTHING: Box = (0, 0, 0)


@dataclass(frozen=True, eq=False)
class Pad(TP):
    """Surrounds an image with its zero point, or with another byte; the jobs share its planes.

    size, before, after: along (x, y, z), of the input. The instruction takes one plane of padding
    at most on each side, and none with a single job (Mesa's B16). filler: the other byte, as the
    device has it.
    """

    detail: ClassVar[str] = "pad"
    mark: ClassVar[int] = OTHERS_FOLLOW

    size: Box
    before: Box = NOTHING
    after: Box = NOTHING
    jobs: int = 1
    filler: int | None = None

    def compile(self, chip: Chip) -> Compiled:
        x, y, z = self.size
        zeros = (self.inputs[0].zero_point, self.outputs[0].zero_point)
        if self.filler is not None:  # padding becomes the output's zero point
            zeros = (self.filler, self.filler)
        before, after, several = self.before, self.after, self.jobs > 1
        out_x, out_y = x + before[0] + after[0], y + before[1] + after[1]
        jobs: list[Job] = []
        for share in shares(z, self.jobs):
            is_first = not jobs
            instruction = TPInstruction(
                in_image_x_size=x,
                in_image_y_size=y,
                in_image_z_size=share.planes,
                in_image_stride=x,
                in_image_slice=x * y,
                in_window_x_start=-before[0],
                in_window_y_start=-before[1],
                in_window_x_end=x - 1 + after[0],
                in_window_y_end=y - 1 + after[1],
                in_window_z_start_overfetch=several and before[2] != 0 and is_first,
                in_window_z_end_overfetch=several and after[2] != 0 and share.is_last,
                in_tile_x_size=out_x,
                in_tile_y_size=out_y,
                in_tile_x_inc=out_x,
                in_tile_y_inc=out_y,
                no_flush=not share.is_last,
                out_loop_0_inc=0,
                out_loop_0_count=1,
                out_loop_1_inc=1,
                out_loop_1_count=out_x,
                out_loop_2_inc=out_x,
                out_loop_2_count=out_y,
                out_loop_6_inc=out_x * out_y,
                in_zp=zeros[0],
                out_zp=zeros[1],
            )
            plane = share.first + (0 if is_first else before[2])
            jobs.append(Job(instruction, x * y * share.first, out_x * out_y * plane))
        return Compiled(tuple(jobs))
