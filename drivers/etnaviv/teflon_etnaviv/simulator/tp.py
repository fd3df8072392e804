"""The TP cores: one instruction moves (and maps) the pixels of one job.

Ref: docs/hardware/etnaviv.md section 8.3
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from teflon.errors import SimulatorFault
from teflon_common.memory import DeviceMemory
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.descriptors import TPInstruction

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]

# Ref: section 3.2. What is modelled, or changes nothing; every other field must have its default.
_FREE = frozenset(
    [
        "in_image_x_size",
        "in_image_y_size",
        "in_image_z_size",
        "in_image_stride",
        "in_image_slice",
        "in_window_x_start",
        "in_window_y_start",
        "in_window_x_end",
        "in_window_y_end",
        "alu_pwl_enable",
        "alu_load_pwl_lut",
        "alu_load_pwl_lut_global_mem",
        "in_tile_x_size",
        "in_tile_y_size",
        "in_tile_x_inc",
        "in_tile_y_inc",
        "in_image_base_address",
        "alu_load_pwl_lut_address",
        "out_loop_1_reset",
        "out_loop_2_reset",
        "out_loop_3_reset",
        "in_window_z_start_overfetch",
        "in_window_z_end_overfetch",
        "alu_pwl_sign_support",
        "no_flush",
        "out_image_base_address",
        "out_loop_0_inc",
        "out_loop_1_inc",
        "out_loop_0_count",
        "out_loop_1_count",
        "out_loop_2_inc",
        "out_loop_3_inc",
        "out_loop_2_count",
        "out_loop_3_count",
        "out_loop_4_inc",
        "out_loop_5_inc",
        "out_loop_4_count",
        "out_loop_5_count",
        "out_loop_6_inc",
        "alu_output_postshift",
        "alu_output_postshift_5_6",
        "in_zp",
        "out_zp",
        "alu_output_post_multiplier",
    ]
)
_MUST = TPInstruction()


def check(i: TPInstruction, where: str) -> None:
    """Raise SimulatorFault for fields that are not understood."""
    for field in i.fields:
        have, must = getattr(i, field.name), getattr(_MUST, field.name)
        if field.name not in _FREE and have != must:
            raise SimulatorFault(
                f"{where}: {field.name} is {have}, must be {must} (nothing else is known)"
            )
    flags = (i.alu_load_pwl_lut, i.alu_load_pwl_lut_global_mem, i.alu_pwl_sign_support)
    if any(flag != i.alu_pwl_enable for flag in flags):
        raise SimulatorFault(
            f"{where}: alu_pwl_enable is {i.alu_pwl_enable}, load, global_mem, sign_support are"
            f" {flags}, must be alike"
        )
    if not (i.in_tile_x_size and i.in_tile_y_size and i.in_tile_x_inc and i.in_tile_y_inc):
        raise SimulatorFault(f"{where}: a tile size or step is 0, must be at least 1")


def _emission(i: TPInstruction) -> tuple[I64, I64, tuple[I64, I64, I64, I64]]:
    """Return x and y of one plane's pixels in order, and their place in the tiling.

    The place is (column in the tile, row in the tile, tile column, tile row).
    """
    first_x, first_y = i.in_window_x_start, i.in_window_y_start
    width, height = i.in_window_x_end - first_x + 1, i.in_window_y_end - first_y + 1
    across = -(-width // i.in_tile_x_inc)
    down = -(-height // i.in_tile_y_inc)
    shape = (down, across, i.in_tile_y_size, i.in_tile_x_size)
    tile_row, tile_column, row, column = np.meshgrid(
        *(np.arange(n) for n in shape), indexing="ij", sparse=True
    )
    x = np.broadcast_to(tile_column * i.in_tile_x_inc + column, shape).reshape(-1)
    y = np.broadcast_to(tile_row * i.in_tile_y_inc + row, shape).reshape(-1)
    keep = (x < width) & (y < height)
    inner = [np.broadcast_to(a, shape).reshape(-1)[keep] for a in (column, row, tile_column,
                                                                   tile_row)]  # fmt: skip
    return x[keep] + first_x, y[keep] + first_y, (inner[0], inner[1], inner[2], inner[3])


def _targets(i: TPInstruction, planes: int, place: tuple[I64, I64, I64, I64], where: str) -> I64:
    """Return the output offset of every pixel, plane by plane."""
    pixels = len(place[0])
    number = np.arange(planes, dtype=np.int64)[:, None] * i.out_loop_6_inc
    if i.out_loop_1_count == 0 and i.out_loop_2_count == 0:
        if not (i.out_loop_1_reset and i.out_loop_2_reset):
            raise SimulatorFault(f"{where}: loops 1 and 2 have count 0, must have their reset set")
        incs = (i.out_loop_1_inc, i.out_loop_2_inc, i.out_loop_3_inc, i.out_loop_4_inc)
        inside = sum(at * inc for at, inc in zip(place, incs, strict=True))
        return (number + inside).reshape(-1)
    return _nested(i, planes * pixels, where)


def _nested(i: TPInstruction, total: int, where: str) -> I64:
    """Return the offsets of counters nested in one another, loop 0 fastest."""
    offsets = np.zeros(1, np.int64)
    for loop in range(6):
        count, inc = getattr(i, f"out_loop_{loop}_count"), getattr(i, f"out_loop_{loop}_inc")
        if count == 0:
            raise SimulatorFault(f"{where}: out_loop_{loop}_count is 0, must be at least 1")
        offsets = (np.arange(count, dtype=np.int64)[:, None] * inc + offsets).reshape(-1)
    wraps = -(-total // len(offsets))
    again = np.arange(wraps, dtype=np.int64)[:, None] * i.out_loop_6_inc
    return (again + offsets).reshape(-1)[:total]


def _sources(i: TPInstruction, x: I64, y: I64) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Return the input offset of every pixel, and whether it is inside the image."""
    z = np.arange(-i.in_window_z_start_overfetch, i.in_image_z_size + i.in_window_z_end_overfetch)
    inside = (x >= 0) & (x < i.in_image_x_size) & (y >= 0) & (y < i.in_image_y_size)
    within = (z >= 0) & (z < i.in_image_z_size)
    offset = z[:, None] * i.in_image_slice + (y * i.in_image_stride + x)
    return offset.reshape(-1), (within[:, None] & inside).reshape(-1)


def fp21_value(code: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Return what 21-bit numbers mean: sign, 5 bits of exponent (bias 15), 15 of mantissa."""
    exponent = (code >> 15 & 0x1F).astype(np.int64)
    mantissa = (code & 0x7FFF).astype(np.float64)
    normal = np.ldexp(1 + mantissa / 2**15, exponent - 15)
    magnitude = np.where(exponent == 0, np.ldexp(mantissa, -29), normal)
    return np.where(code >> 20 & 1, -magnitude, magnitude)


def _fp21_of(number: int) -> int:
    """Return the 21-bit number of a small integer; exact up to 16 bits."""
    sign = (1 << 20) if number < 0 else 0
    magnitude = abs(number)
    if not magnitude:
        return sign
    exponent = magnitude.bit_length() - 1
    return sign | (exponent + 15) << 15 | (magnitude << 15 >> exponent) & 0x7FFF


def _mapping(i: TPInstruction, chip: Chip, memory: DeviceMemory, where: str) -> U8:
    """Return the output byte of each input byte."""
    numbers = np.arange(256) - i.in_zp
    if not i.alu_pwl_enable:
        return np.clip(numbers + i.out_zp, 0, 255).astype(np.uint8)
    raw = memory.view(i.alu_load_pwl_lut_address, 4 * chip.lut_entries, f"{where}: lookup table")
    table = raw.copy().view("<u4")
    if (table >> 21).any():
        raise SimulatorFault(f"{where}: lookup table has numbers beyond 21 bits")
    values = np.append(fp21_value(table), 0.0)
    codes = np.array([_fp21_of(int(n)) for n in numbers])
    index, part = codes >> 11, (codes & 0x7FF) / 2048
    interpolated = values[index] + (values[index + 1] - values[index]) * part
    shift = i.alu_output_postshift | i.alu_output_postshift_5_6 << 5
    shift -= 128 if shift >= 64 else 0
    scale = (1 + i.alu_output_post_multiplier / 2**15) * 2.0**-shift
    mapped: U8 = np.clip(np.rint(interpolated * scale) + i.out_zp, 0, 255).astype(np.uint8)
    return mapped


@dataclass(frozen=True)
class Touched:
    """First address and end of what a job read and of what it wrote; (0, 0) for nothing."""

    read: tuple[int, int] = (0, 0)
    written: tuple[int, int] = (0, 0)


def run(i: TPInstruction, chip: Chip, memory: DeviceMemory, where: str) -> Touched:
    """Execute one TP instruction."""
    check(i, where)
    x, y, place = _emission(i)
    sources, inside = _sources(i, x, y)
    if not len(sources):
        return Touched()
    targets = _targets(i, len(sources) // max(len(x), 1), place, where)
    values = np.full(len(sources), i.out_zp, np.uint8)
    read, base = (0, 0), i.in_image_base_address
    if inside.any():
        first, last = int(sources[inside].min()), int(sources[inside].max()) + 1
        read = (base + first, base + last)
        image = memory.view(i.in_image_base_address, last, f"{where}: input")
        values[inside] = _mapping(i, chip, memory, where)[image[sources[inside]]]
    low, high = int(targets.min()), int(targets.max()) + 1
    start = i.out_image_base_address
    out = memory.view(start + low, high - low, f"{where}: output")
    out[targets - low] = values
    return Touched(read, (start + low, start + high))
