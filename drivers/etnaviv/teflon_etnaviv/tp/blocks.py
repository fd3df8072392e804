"""Space to depth for convolutions with strides: any padding, any shape, blocks of any size.

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
    """Brings the pixels of each block into channels; the jobs share the columns of blocks.

    With blocks of s rows and t columns, output plane (c s + y) t + x holds the pixels at row y and
    column x of the blocks of plane c. top, left: rows and columns of padding before the image.
    """

    detail: ClassVar[str] = "blocks"

    top: int
    left: int
    jobs: int = 1
    step: tuple[int, int] = (2, 2)

    def compile(self, chip: Chip) -> Compiled:
        shares = self._shares()
        last = len(shares) - 1
        return Compiled(
            tuple(self._job(*share, number == last) for number, share in enumerate(shares))
        )

    def _shares(self) -> list[tuple[int, int]]:
        """Return (first, end) block columns of each job; every job must see the image."""
        width, columns = self.inputs[0].shape[2], self.outputs[0].shape[2]
        step = self.step[1]
        cuts = [columns * i // self.jobs for i in range(self.jobs + 1)]
        shares = list(pairwise(cuts))
        if all(
            step * end > self.left and step * first - self.left < width for first, end in shares
        ):
            return shares
        return [(0, columns)]

    def _job(self, first: int, end: int, is_last: bool) -> Job:
        height, width, channels = self.inputs[0].sizes
        rows, columns, _ = self.outputs[0].sizes
        zero = self.inputs[0].zero_point
        down, across = self.step
        start = max(across * first - self.left, 0)  # first image column that this job sees
        window = across * first - self.left - start
        instruction = TPInstruction(
            in_image_x_size=min(across * end - self.left, width) - start,
            in_image_y_size=height,
            in_image_z_size=channels,
            in_image_stride=width,
            in_image_slice=width * height,
            in_window_x_start=window,
            in_window_y_start=-self.top,
            in_window_x_end=window + across * (end - first) - 1,
            in_window_y_end=down * rows - 1 - self.top,
            no_flush=not is_last,
            **block_fields(rows * columns, columns, end - first, rows, self.step),
            in_zp=zero,
            out_zp=zero,
        )
        return Job(instruction, start, first)


def block_fields(
    plane: int, pitch: int, columns: int, rows: int, step: tuple[int, int] = (2, 2)
) -> dict[str, int]:
    """Return the fields of a job that writes blocks: each place of a block to its own plane.

    plane, pitch: from one plane of the output to the next, and from one row to the next, in bytes.
    columns, rows: the blocks of this job. step: rows and columns of a block.
    """
    down, across = step
    return {
        "in_tile_x_size": across * columns,
        "in_tile_y_size": down * rows,
        "in_tile_x_inc": across * columns,
        "in_tile_y_inc": down * rows,
        "out_loop_0_inc": plane,
        "out_loop_0_count": across,
        "out_loop_1_inc": 1,
        "out_loop_1_count": columns,
        "out_loop_1_reset": 1,
        "out_loop_2_inc": across * plane,
        "out_loop_2_count": down,
        "out_loop_3_inc": pitch,
        "out_loop_3_count": rows,
        "out_loop_3_reset": 1,
        "out_loop_6_inc": down * across * plane,
    }
