"""Lookup tables: every byte becomes what a table of 1024 numbers says, in another quantisation.

Ref: docs/hardware/etnaviv.md section 5.5
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.rounding import cdiv
from teflon_etnaviv.tp import lut
from teflon_etnaviv.tp.curves import Curve
from teflon_etnaviv.tp.lut import U32
from teflon_etnaviv.tp.operation import OTHERS_FOLLOW, TP, Share, shares

_TILE_X, _TILE_Y = 64, 16


@dataclass(frozen=True, eq=False)
class Table(TP):
    """Looks every byte of a tensor up, in any layout; the jobs share its rows."""

    shared_from: ClassVar[int] = 6
    """Rows from which on Mesa gives the work to all cores."""

    jobs: int = 1

    @abstractmethod
    def entries(self) -> U32:
        """Return the table: 1024 numbers of 21 bits."""

    def scale(self) -> np.float32:
        """Return the factor from the table's results to the output's numbers."""
        return np.float32(self.inputs[0].scale / self.outputs[0].scale)

    def zero_points(self) -> tuple[int, int]:
        """Return the byte that is looked up as 0, and what results are added to."""
        return self.inputs[0].zero_point, self.outputs[0].zero_point

    def compile(self, chip: Chip) -> Compiled:
        height, width, channels = self.inputs[0].sizes
        multiplier, shift = lut.output_scale(self.scale())
        jobs = []
        for share in shares(height, self.jobs):
            offset = channels * width * share.first
            jobs.append(Job(self._instruction(share, multiplier, shift), offset, offset))
        return Compiled(tuple(jobs), self.entries().astype("<u4").tobytes())

    def _instruction(self, share: Share, multiplier: int, shift: int) -> TPInstruction:
        _, width, channels = self.inputs[0].sizes
        in_zero, out_zero = self.zero_points()
        return TPInstruction(
            in_image_x_size=channels,
            in_image_y_size=width,
            in_image_z_size=share.planes,
            in_image_stride=channels,
            in_image_slice=channels * width,
            in_window_x_end=channels - 1,
            in_window_y_end=width - 1,
            in_tile_x_size=_TILE_X,
            in_tile_y_size=_TILE_Y,
            in_tile_x_inc=_TILE_X,
            in_tile_y_inc=_TILE_Y,
            alu_pwl_enable=1,
            alu_load_pwl_lut=1,
            alu_load_pwl_lut_global_mem=1,
            alu_pwl_sign_support=1,
            out_loop_1_reset=1,
            out_loop_2_reset=1,
            no_flush=not share.is_last,
            out_loop_0_inc=0,
            out_loop_0_count=1,
            out_loop_1_inc=1,
            out_loop_1_count=0,
            out_loop_2_inc=channels,
            out_loop_2_count=0,
            out_loop_3_inc=_TILE_X,
            out_loop_3_count=cdiv(channels, _TILE_X),
            out_loop_4_inc=_TILE_Y * channels,
            out_loop_4_count=cdiv(width, _TILE_Y),
            out_loop_6_inc=channels * width,
            alu_output_postshift=shift & 0x1F,
            alu_output_postshift_5_6=shift >> 5,
            alu_output_post_multiplier=multiplier,
            in_zp=in_zero,
            out_zp=out_zero,
        )


class Relu(Table):
    """max(x, 0)"""

    detail: ClassVar[str] = "relu"
    mark: ClassVar[int] = OTHERS_FOLLOW

    def entries(self) -> U32:
        return lut.relu()


class Abs(Table):
    """|x|; all cores take part in it, however few rows there are."""

    detail: ClassVar[str] = "abs"
    mark: ClassVar[int] = OTHERS_FOLLOW
    shared_from: ClassVar[int] = 0

    def entries(self) -> U32:
        return lut.absolute()


class Logistic(Table):
    """1 / (1 + exp(-x)); Mesa gives it no mark, though it shares its code with RELU and ABS."""

    detail: ClassVar[str] = "logistic"

    def entries(self) -> U32:
        return lut.logistic(self.inputs[0].scale)

    def scale(self) -> np.float32:
        return np.float32(np.float32(1) / self.outputs[0].scale)


@dataclass(frozen=True, eq=False)
class Fitted(Table):
    """A function of a byte whose entries were found for its 256 results."""

    detail: ClassVar[str] = "table"
    mark: ClassVar[int] = OTHERS_FOLLOW

    curve: Curve = field(kw_only=True)

    def entries(self) -> U32:
        return np.frombuffer(self.curve.entries, "<u4")

    def scale(self) -> np.float32:
        return np.float32(1)

    def zero_points(self) -> tuple[int, int]:
        return self.curve.in_zero, self.curve.out_zero
