"""From rows to planes and back.

Ref: docs/hardware/etnaviv.md sections 5.1, 5.2
"""

from __future__ import annotations

from typing import ClassVar

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.tp.operation import TP


class Transpose(TP):
    """Rows (NHWC) become planes (NCHW)."""

    detail: ClassVar[str] = "transpose"

    def compile(self, chip: Chip) -> Compiled:
        height, width, channels = self.inputs[0].sizes
        zero = self.inputs[0].zero_point
        return Compiled((Job(TPInstruction(
            in_image_x_size=channels,
            in_image_y_size=width,
            in_image_z_size=height,
            in_image_stride=channels,
            in_image_slice=width * channels,
            in_window_x_end=channels - 1,
            in_window_y_end=width - 1,
            in_tile_y_size=width,
            in_tile_y_inc=width,
            out_loop_0_count=width,
            out_loop_1_inc=height * width,
            out_loop_1_count=channels,
            out_loop_2_inc=width,
            out_loop_2_count=height,
            in_zp=zero,
            out_zp=zero,
        )),))  # fmt: skip


class Detranspose(TP):
    """Planes (NCHW) become rows (NHWC)."""

    detail: ClassVar[str] = "detranspose"

    def compile(self, chip: Chip) -> Compiled:
        height, width, channels = self.outputs[0].sizes
        zero = self.inputs[0].zero_point
        return Compiled((Job(TPInstruction(
            in_image_x_size=height,
            in_image_y_size=width * channels,
            in_image_z_size=1,
            in_image_stride=height,
            in_image_slice=height * width * channels,
            in_window_x_end=height - 1,
            in_window_y_end=width * channels - 1,
            in_tile_y_size=1,
            in_tile_y_inc=1,
            out_loop_0_inc=channels,
            out_loop_0_count=width,
            out_loop_1_count=1,
            out_loop_2_inc=width * channels,
            out_loop_2_count=height,
            out_loop_3_inc=1,
            out_loop_3_count=channels,
            out_loop_4_inc=height * width * channels,
            in_zp=zero,
            out_zp=zero,
        )),))  # fmt: skip
