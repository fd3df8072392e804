"""Space to depth for stride-2 convolutions in Mesa's way.

Ref: docs/hardware/etnaviv.md section 5.3
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_tp.c
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import Compiled, Job
from teflon_etnaviv.rounding import cdiv
from teflon_etnaviv.tensors import Box, Shape
from teflon_etnaviv.tp.blocks import block_fields
from teflon_etnaviv.tp.operation import TP

_U32 = 1 << 32
_SMALL = 8  # rows up to which images of one channel are one job
_ALONE = ((224, 3), (320, 3))  # (height, channels) of images that one job takes


def reshuffled_shape(shape: Shape, same: bool, kernel: int) -> Shape:
    """Return the shape of a stride-2 convolution's input after space to depth."""
    more = (2 if kernel == 5 else 1) if same else 0
    return shape[0], cdiv(shape[1], 2) + more, cdiv(shape[2], 2) + more, 4 * shape[3]


def reshuffle_jobs(shape: Shape, chip: Chip) -> int:
    """Return how many jobs Mesa gives the work to."""
    _, height, _, channels = shape
    if (height, channels) in _ALONE or (height <= _SMALL and channels == 1):
        return 1
    return chip.tp_core_count


@dataclass(frozen=True)
class _Part:
    """One job's share of a reshuffle along the split axis; `size` and `taken` are (x, y, z)."""

    taken: Box
    size: Box
    pad_x: int
    pad_y: int


@dataclass(frozen=True, eq=False)
class Reshuffle(TP):
    """Brings the pixels of each 2x2 block into channels, with Mesa's mistakes (B18).

    same: the convolution pads; kernel: rows of its kernel.
    """

    detail: ClassVar[str] = "reshuffle"

    same: bool
    kernel: int
    jobs: int

    def compile(self, chip: Chip) -> Compiled:
        axis, parts = self._parts()
        return Compiled(tuple(self._job(axis, parts, number) for number in range(len(parts))))

    def _parts(self) -> tuple[int, list[_Part]]:
        """Return (split axis, shares). Sizes wrap as unsigned 32-bit numbers."""
        height, width, channels = self.inputs[0].sizes
        _, out_height, out_width, _ = self.outputs[0].shape
        whole_in, whole_out = (width, height, channels), (out_width, out_height, channels)
        axis = 0
        if channels >= whole_out[0]:
            axis = 1 if out_height >= whole_out[axis] else axis
            axis = 2 if channels >= whole_out[axis] else axis
        rest_in, rest_out = whole_in[axis], whole_out[axis]
        parts = []
        for i in range(self.jobs):
            size = cdiv(rest_out, self.jobs - i)
            pad_x, pad_y = self._pads(axis, i == 0)
            taken = rest_in
            if i < self.jobs - 1:
                lost = (pad_x, pad_y, 0)[axis]
                taken = (size * (1 if axis == 2 else 2) - lost) % _U32
            parts.append(
                _Part(
                    _replaced(whole_in, axis, taken), _replaced(whole_out, axis, size), pad_x, pad_y
                )
            )
            rest_out -= size
            rest_in = (rest_in - taken) % _U32
        return axis, parts

    def _pads(self, axis: int, first: bool) -> tuple[int, int]:
        """Return padding columns and rows before a share; Mesa tests the other axis's oddness."""
        height, width, _ = self.inputs[0].sizes
        pad_x = pad_y = 0
        if not self.same:
            return 0, 0
        if self.kernel == 5:
            pad_x += first or axis != 0
            pad_y += first or axis != 1
        if height % 2:
            pad_x += first or axis != 0
        if width % 2:
            pad_y += first or axis != 1
        return pad_x, pad_y

    def _job(self, axis: int, parts: Sequence[_Part], number: int) -> Job:
        height, width, _ = self.inputs[0].sizes
        out_height, out_width, _ = self.outputs[0].sizes
        part, before = parts[number], parts[:number]
        in_step = (1, width, width * height)[axis]
        out_step = (1, out_height, 4 * part.size[0] * part.size[1])[axis]
        return Job(
            self._instruction(part, out_width * out_height, number == len(parts) - 1),
            sum(in_step * p.taken[axis] for p in before),
            sum(out_step * p.size[axis] for p in before),
        )

    def _instruction(self, part: _Part, plane: int, is_last: bool) -> TPInstruction:
        height, width, _ = self.inputs[0].sizes
        out_x, out_y, _ = part.size
        zero = self.inputs[0].zero_point
        return TPInstruction(
            in_image_x_size=part.taken[0],
            in_image_y_size=part.taken[1],
            in_image_z_size=part.taken[2],
            in_image_stride=width,
            in_image_slice=width * height,
            in_window_x_start=-part.pad_x,
            in_window_y_start=-part.pad_y,
            in_window_x_end=2 * out_x - 1 - part.pad_x,
            in_window_y_end=2 * out_y - 1 - part.pad_y,
            no_flush=not is_last,
            **block_fields(plane, self.outputs[0].shape[2], out_x, out_y),
            in_zp=zero,
            out_zp=zero,
        )


def _replaced(sizes: Box, axis: int, value: int) -> Box:
    changed = list(sizes)
    changed[axis] = value
    return changed[0], changed[1], changed[2]
