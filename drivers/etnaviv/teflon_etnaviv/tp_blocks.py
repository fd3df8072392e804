"""Space to depth for stride-2 convolutions of strategy exact.

Ref: docs/hardware/etnaviv.md sections 4.2 (step 3) and 5.3, B18 of section 10.3
"""

from __future__ import annotations

from itertools import pairwise

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import TP
from teflon_etnaviv.tp_jobs import Job, Jobs


def _block_shares(columns: int, width: int, left: int, count: int) -> list[tuple[int, int]]:
    """Return (first, end) block columns of each job; every job must see the image."""
    cuts = [columns * i // count for i in range(count + 1)]
    shares = list(pairwise(cuts))
    if all(2 * end - left > 0 and 2 * first - left < width for first, end in shares):
        return shares
    return [(0, columns)]


def blocks(op: TP, chip: Chip) -> Jobs:
    """Space to depth with any padding: `before` is (rows, columns) before the image.

    Output plane 4 c + 2 y + x holds the pixels at row parity y and column parity x of plane c.
    Unlike in Mesa's reshuffle, jobs share the columns, whatever the image's shape.
    """
    height, width, channels = op.inputs[0].shape[1:]
    _, rows, columns, _ = op.outputs[0].shape
    top, left = op.before[:2]
    plane, zero = rows * columns, op.inputs[0].zero_point
    shares = _block_shares(columns, width, left, min(chip.tp_core_count, columns))
    jobs = []
    for number, (first, end) in enumerate(shares):
        start = max(2 * first - left, 0)  # first image column that this job sees
        window = 2 * first - left - start
        jobs.append(Job(TPInstruction(
            in_image_x_size=min(2 * end - left, width) - start,
            in_image_y_size=height,
            in_image_z_size=channels,
            in_image_stride=width,
            in_image_slice=width * height,
            in_window_x_start=window,
            in_window_y_start=-top,
            in_window_x_end=window + 2 * (end - first) - 1,
            in_window_y_end=2 * rows - 1 - top,
            in_tile_x_size=2 * (end - first),
            in_tile_y_size=2 * rows,
            in_tile_x_inc=2 * (end - first),
            in_tile_y_inc=2 * rows,
            out_loop_1_reset=1,
            out_loop_3_reset=1,
            no_flush=number < len(shares) - 1,
            out_loop_0_inc=plane,
            out_loop_0_count=2,
            out_loop_1_inc=1,
            out_loop_1_count=end - first,
            out_loop_2_inc=2 * plane,
            out_loop_2_count=2,
            out_loop_3_inc=columns,
            out_loop_3_count=rows,
            out_loop_6_inc=4 * plane,
            in_zp=zero,
            out_zp=zero,
        ), start, first))  # fmt: skip
    return Jobs(tuple(jobs))
