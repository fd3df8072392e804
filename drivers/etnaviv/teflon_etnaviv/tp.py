"""From TP operations to TP instructions, one for each job; addresses are left to relocations.

Ref: docs/hardware/etnaviv.md section 5
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_tp.c
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from teflon_etnaviv import lut
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction
from teflon_etnaviv.operations import TP, Tensor
from teflon_etnaviv.tiling import cdiv
from teflon_etnaviv.tp_blocks import blocks
from teflon_etnaviv.tp_jobs import Job, Jobs

INPUT_ADDRESS = 4 * 10
LUT_ADDRESS = 4 * 11
OUTPUT_ADDRESS = 4 * 13

TRANSPOSE = "transpose"
DETRANSPOSE = "detranspose"
RESHUFFLE = "reshuffle"
BLOCKS = "blocks"
PAD = "pad"
RELU = "relu"
ABS = "abs"
LOGISTIC = "logistic"
REQUANTISE = "requantise"

_U32 = 1 << 32


def compile_operation(op: TP, chip: Chip) -> Jobs:
    """Return the jobs of a TP operation. Raises FieldOverflow for sizes beyond the fields."""
    return _COMPILERS[op.kind](op, chip)


def _dims(tensor: Tensor) -> tuple[int, int, int]:
    return tensor.shape[1], tensor.shape[2], tensor.shape[3]


def _transpose(op: TP, chip: Chip) -> Jobs:
    height, width, channels = _dims(op.inputs[0])
    zero = op.inputs[0].zero_point
    return Jobs((Job(TPInstruction(
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


def _detranspose(op: TP, chip: Chip) -> Jobs:
    height, width, channels = _dims(op.outputs[0])
    zero = op.inputs[0].zero_point
    return Jobs((Job(TPInstruction(
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


def reshuffled_shape(
    shape: tuple[int, int, int, int], same: bool, kernel: int
) -> tuple[int, int, int, int]:
    """Return the shape of a stride-2 convolution's input after space to depth."""
    more = (2 if kernel == 5 else 1) if same else 0
    return shape[0], cdiv(shape[1], 2) + more, cdiv(shape[2], 2) + more, 4 * shape[3]


@dataclass(frozen=True)
class _Part:
    """One job's share of a reshuffle along the split axis."""

    in_size: tuple[int, int, int]  # (x, y, z)
    out_size: tuple[int, int, int]
    pad_x: int
    pad_y: int


def _reshuffle_parts(op: TP, count: int) -> tuple[int, list[_Part]]:
    """Return (split axis, shares). Sizes wrap as unsigned 32-bit numbers."""
    height, width, channels = _dims(op.inputs[0])
    _, out_height, out_width, _ = op.outputs[0].shape
    whole_in, whole_out = (width, height, channels), (out_width, out_height, channels)
    axis = 0
    if channels >= whole_out[0]:
        axis = 1 if out_height >= whole_out[axis] else axis
        axis = 2 if channels >= whole_out[axis] else axis
    rest_in, rest_out = whole_in[axis], whole_out[axis]
    parts = []
    for i in range(count):
        size = cdiv(rest_out, count - i)
        pad_x, pad_y = _reshuffle_pads(op, axis, i == 0)
        taken = rest_in
        if i < count - 1:
            lost = (pad_x, pad_y, 0)[axis]
            taken = (size * (1 if axis == 2 else 2) - lost) % _U32
        parts.append(_Part(
            _replaced(whole_in, axis, taken), _replaced(whole_out, axis, size), pad_x, pad_y
        ))  # fmt: skip
        rest_out -= size
        rest_in = (rest_in - taken) % _U32
    return axis, parts


def _replaced(sizes: tuple[int, int, int], axis: int, value: int) -> tuple[int, int, int]:
    changed = list(sizes)
    changed[axis] = value
    return changed[0], changed[1], changed[2]


def _reshuffle_pads(op: TP, axis: int, first: bool) -> tuple[int, int]:
    """Return padding columns and rows before a share; Mesa tests the other axis's oddness."""
    height, width, _ = _dims(op.inputs[0])
    pad_x = pad_y = 0
    if not op.same:
        return 0, 0
    if op.kernel == 5:
        pad_x += first or axis != 0
        pad_y += first or axis != 1
    if height % 2:
        pad_x += first or axis != 0
    if width % 2:
        pad_y += first or axis != 1
    return pad_x, pad_y


def _reshuffle(op: TP, chip: Chip) -> Jobs:
    height, width, channels = _dims(op.inputs[0])
    _, out_height, out_width, _ = op.outputs[0].shape
    plane = out_width * out_height
    zero = op.inputs[0].zero_point
    count = chip.tp_core_count if height > 8 or channels > 1 else 1
    if channels == 3 and height in (224, 320):
        count = 1
    axis, parts = _reshuffle_parts(op, count)
    jobs = []
    for number, part in enumerate(parts):
        out_x, out_y, _ = part.out_size
        instruction = TPInstruction(
            in_image_x_size=part.in_size[0],
            in_image_y_size=part.in_size[1],
            in_image_z_size=part.in_size[2],
            in_image_stride=width,
            in_image_slice=width * height,
            in_window_x_start=-part.pad_x,
            in_window_y_start=-part.pad_y,
            in_window_x_end=2 * out_x - 1 - part.pad_x,
            in_window_y_end=2 * out_y - 1 - part.pad_y,
            in_tile_x_size=2 * out_x,
            in_tile_y_size=2 * out_y,
            in_tile_x_inc=2 * out_x,
            in_tile_y_inc=2 * out_y,
            out_loop_1_reset=1,
            out_loop_3_reset=1,
            no_flush=number < count - 1,
            out_loop_0_inc=plane,
            out_loop_0_count=2,
            out_loop_1_inc=1,
            out_loop_1_count=out_x,
            out_loop_2_inc=2 * plane,
            out_loop_2_count=2,
            out_loop_3_inc=out_width,
            out_loop_3_count=out_y,
            out_loop_6_inc=4 * plane,
            in_zp=zero,
            out_zp=zero,
        )
        before = parts[:number]
        in_step = (1, width, width * height)[axis]
        out_step = (1, out_height, 4 * out_x * out_y)[axis]
        jobs.append(Job(
            instruction,
            sum(in_step * p.in_size[axis] for p in before),
            sum(out_step * p.out_size[axis] for p in before),
        ))  # fmt: skip
    return Jobs(tuple(jobs))


def _share(rest: int, count: int, i: int) -> int:
    """Return what job i of count takes of the planes that are left."""
    return rest if i == count - 1 else cdiv(rest, count - i)


def _pad(op: TP, chip: Chip) -> Jobs:
    height, width, channels = _dims(op.inputs[0])
    order = (1, 0, 2) if op.planar else (2, 1, 0)  # (x, y, z) among (height, width, channels)
    sizes = (height, width, channels)
    x, y, z = (sizes[i] for i in order)
    before = tuple(op.before[i] for i in order)
    after = tuple(op.after[i] for i in order)
    out_x, out_y = x + before[0] + after[0], y + before[1] + after[1]
    count = 1 if height == 1 else chip.tp_core_count
    count = min(count, z) if op.exact else count
    jobs, rest, in_offset, out_offset = [], z, 0, 0
    for i in range(count):
        planes = _share(rest, count, i)
        rest -= planes
        jobs.append(Job(TPInstruction(
            in_image_x_size=x,
            in_image_y_size=y,
            in_image_z_size=planes,
            in_image_stride=x,
            in_image_slice=x * y,
            in_window_x_start=-before[0],
            in_window_y_start=-before[1],
            in_window_x_end=x - 1 + after[0],
            in_window_y_end=y - 1 + after[1],
            in_window_z_start_overfetch=count > 1 and before[2] != 0 and i == 0,
            in_window_z_end_overfetch=count > 1 and after[2] != 0 and i == count - 1,
            in_tile_x_size=out_x,
            in_tile_y_size=out_y,
            in_tile_x_inc=out_x,
            in_tile_y_inc=out_y,
            no_flush=i < count - 1,
            out_loop_0_inc=0,
            out_loop_0_count=1,
            out_loop_1_inc=1,
            out_loop_1_count=out_x,
            out_loop_2_inc=out_x,
            out_loop_2_count=out_y,
            out_loop_6_inc=out_x * out_y,
            in_zp=op.inputs[0].zero_point,
            out_zp=op.outputs[0].zero_point,
        ), in_offset, out_offset))  # fmt: skip
        in_offset += x * y * planes
        out_offset += out_x * out_y * (planes + (before[2] if i == 0 else 0))
    return Jobs(tuple(jobs))


def _table_and_scale(op: TP) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint32]], np.float32]:
    source, target = op.inputs[0], op.outputs[0]
    if op.kind == LOGISTIC:
        return lut.logistic(source.scale), np.float32(np.float32(1) / target.scale)
    table = {RELU: lut.relu, ABS: lut.absolute, REQUANTISE: lut.identity}[op.kind]()
    return table, np.float32(source.scale / target.scale)


_TABLE_TILE = (64, 16)


def _table(op: TP, chip: Chip) -> Jobs:
    height, width, channels = _dims(op.inputs[0])
    count = 1 if op.kind != ABS and height < 6 else chip.tp_core_count
    count = min(count, height) if op.exact else count
    table, scale = _table_and_scale(op)
    multiplier, shift = lut.output_scale(scale)
    tile_x, tile_y = _TABLE_TILE
    jobs, rest, offset = [], height, 0
    for i in range(count):
        planes = _share(rest, count, i)
        rest -= planes
        jobs.append(Job(TPInstruction(
            in_image_x_size=channels,
            in_image_y_size=width,
            in_image_z_size=planes,
            in_image_stride=channels,
            in_image_slice=channels * width,
            in_window_x_end=channels - 1,
            in_window_y_end=width - 1,
            in_tile_x_size=tile_x,
            in_tile_y_size=tile_y,
            in_tile_x_inc=tile_x,
            in_tile_y_inc=tile_y,
            alu_pwl_enable=1,
            alu_load_pwl_lut=1,
            alu_load_pwl_lut_global_mem=1,
            alu_pwl_sign_support=1,
            out_loop_1_reset=1,
            out_loop_2_reset=1,
            no_flush=i < count - 1,
            out_loop_0_inc=0,
            out_loop_0_count=1,
            out_loop_1_inc=1,
            out_loop_1_count=0,
            out_loop_2_inc=channels,
            out_loop_2_count=0,
            out_loop_3_inc=tile_x,
            out_loop_3_count=cdiv(channels, tile_x),
            out_loop_4_inc=tile_y * channels,
            out_loop_4_count=cdiv(width, tile_y),
            out_loop_6_inc=channels * width,
            alu_output_postshift=shift & 0x1F,
            alu_output_postshift_5_6=shift >> 5,
            alu_output_post_multiplier=multiplier,
            in_zp=op.inputs[0].zero_point,
            out_zp=op.outputs[0].zero_point,
        ), offset, offset))  # fmt: skip
        offset += channels * width * planes
    return Jobs(tuple(jobs), table.astype("<u4").tobytes())


_COMPILERS: dict[str, Callable[[TP, Chip], Jobs]] = {
    TRANSPOSE: _transpose,
    DETRANSPOSE: _detranspose,
    RESHUFFLE: _reshuffle,
    PAD: _pad,
    RELU: _table,
    ABS: _table,
    LOGISTIC: _table,
    REQUANTISE: _table,
    BLOCKS: blocks,
}
