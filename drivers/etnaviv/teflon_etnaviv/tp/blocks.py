"""Space to depth for stride-2 convolutions: any padding, any shape.

Ref: docs/hardware/etnaviv.md sections 4.2 (step 3) and 5.3, B18 of section 10.3
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tp.operation import TP


@dataclass(frozen=True, eq=False)
class Blocks(TP):
    """Brings the pixels of each 2x2 block into channels; the jobs share the columns of blocks.

    Output plane 4 c + 2 y + x holds the pixels at row parity y and column parity x of plane c.
    top, left: rows and columns of padding before the image.
    """

    detail: ClassVar[str] = "blocks"

    top: int
    left: int
    jobs: int = 1

    def compile(self, chip: Chip) -> Compiled:
        shares = self._shares()
        last = len(shares) - 1
        return Compiled(
            tuple(self._job(*share, number == last) for number, share in enumerate(shares))
        )

    def _shares(self) -> list[tuple[int, int]]:
        """Return (first, end) block columns of each job; every job must see the image."""
        width, columns = self.inputs[0].shape[2], self.outputs[0].shape[2]
        cuts = [columns * i // self.jobs for i in range(self.jobs + 1)]
        shares = list(pairwise(cuts))
        if all(2 * end > self.left and 2 * first - self.left < width for first, end in shares):
            return shares
        return [(0, columns)]

    def _job(self, first: int, end: int, is_last: bool) -> Job:
        height, width, channels = self.inputs[0].sizes
        rows, columns, _ = self.outputs[0].sizes
        zero = self.inputs[0].zero_point
        start = max(2 * first - self.left, 0)  # first image column that this job sees
        window = 2 * first - self.left - start
        instruction = TPInstruction(
            in_image_x_size=min(2 * end - self.left, width) - start,
            in_image_y_size=height,
            in_image_z_size=channels,
            in_image_stride=width,
            in_image_slice=width * height,
            in_window_x_start=window,
            in_window_y_start=-self.top,
            in_window_x_end=window + 2 * (end - first) - 1,
            in_window_y_end=2 * rows - 1 - self.top,
            no_flush=not is_last,
            **block_fields(rows * columns, columns, end - first, rows),
            in_zp=zero,
            out_zp=zero,
        )
        return Job(instruction, start, first)


def block_fields(plane: int, pitch: int, columns: int, rows: int) -> dict[str, int]:
    """Return the fields of a job that writes 2x2 blocks: each place of a block to its own plane.

    plane, pitch: from one plane of the output to the next, and from one row to the next, in bytes.
    columns, rows: the blocks of this job.
    """
    return {
        "in_tile_x_size": 2 * columns,
        "in_tile_y_size": 2 * rows,
        "in_tile_x_inc": 2 * columns,
        "in_tile_y_inc": 2 * rows,
        "out_loop_0_inc": plane,
        "out_loop_0_count": 2,
        "out_loop_1_inc": 1,
        "out_loop_1_count": columns,
        "out_loop_1_reset": 1,
        "out_loop_2_inc": 2 * plane,
        "out_loop_2_count": 2,
        "out_loop_3_inc": pitch,
        "out_loop_3_count": rows,
        "out_loop_3_reset": 1,
        "out_loop_6_inc": 4 * plane,
    }
