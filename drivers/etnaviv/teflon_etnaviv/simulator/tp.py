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
from teflon_etnaviv.simulator import _moves, _units

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
                f"{where}: {field.name} is {have}, must be {must} (no other value is understood)"
            )
    flags = (i.alu_load_pwl_lut, i.alu_load_pwl_lut_global_mem, i.alu_pwl_sign_support)
    if any(flag != i.alu_pwl_enable for flag in flags):
        raise SimulatorFault(
            f"{where}: alu_pwl_enable is {i.alu_pwl_enable}, load, global_mem, sign_support are"
            f" {flags}, must be alike"
        )
    if not (i.in_tile_x_size and i.in_tile_y_size and i.in_tile_x_inc and i.in_tile_y_inc):
        raise SimulatorFault(f"{where}: a tile size or step is 0, must be at least 1")


_PIXELS_MAX = 1 << 31  # of one job


def _job(i: TPInstruction, where: str) -> I64 | None:
    """Return a job's numbers as `_moves` takes them (struct tp there); None where it moves nothing.

    Raises SimulatorFault for loops that are not understood.
    """
    width = i.in_window_x_end - i.in_window_x_start + 1
    height = i.in_window_y_end - i.in_window_y_start + 1
    over = (i.in_window_z_start_overfetch, i.in_window_z_end_overfetch)
    planes = over[0] + i.in_image_z_size + over[1]
    if min(width, height, planes) <= 0:
        return None
    tiles = -(-width // i.in_tile_x_inc) * -(-height // i.in_tile_y_inc)
    pixels = planes * tiles * min(i.in_tile_x_size, width) * min(i.in_tile_y_size, height)
    if pixels > _PIXELS_MAX:
        raise SimulatorFault(f"{where}: moves {pixels} pixels, must be at most {_PIXELS_MAX}")
    counts = [getattr(i, f"out_loop_{loop}_count") for loop in range(6)]
    incs = [getattr(i, f"out_loop_{loop}_inc") for loop in range(7)]
    nested = _nested(i, counts, where)
    return np.array(
        [
            i.in_window_x_start, i.in_window_y_start, width, height, i.in_tile_x_size,
            i.in_tile_y_size, i.in_tile_x_inc, i.in_tile_y_inc, -over[0], planes,
            i.in_image_x_size, i.in_image_y_size, i.in_image_z_size, i.in_image_stride,
            i.in_image_slice, i.out_zp, nested, *counts, *incs,
        ],
        np.int64,
    )  # fmt: skip


def _nested(i: TPInstruction, counts: list[int], where: str) -> bool:
    """Whether loops 0 to 5 are counters nested in one another, loop 0 fastest.

    Else a pixel goes where its place in the tiling says: loops 1 to 4 are the column in the tile,
    the row in the tile, the column of the tile and its row. Loop 6 is the plane; with nested loops
    it counts how often all others have wrapped.
    """
    if counts[1] == 0 and counts[2] == 0:
        if not (i.out_loop_1_reset and i.out_loop_2_reset):
            raise SimulatorFault(f"{where}: loops 1 and 2 have count 0, must have their reset set")
        return False
    for loop, count in enumerate(counts):
        if count == 0:
            raise SimulatorFault(f"{where}: out_loop_{loop}_count is 0, must be at least 1")
    return True


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


def _table(i: TPInstruction, chip: Chip, memory: DeviceMemory, where: str) -> U8 | None:
    """Return the bytes of a job's lookup table; None without one."""
    if not i.alu_pwl_enable:
        return None
    return memory.view(i.alu_load_pwl_lut_address, 4 * chip.lut_entries, f"{where}: lookup table")


def _mapping(i: TPInstruction, raw: U8 | None, where: str) -> U8:
    """Return the output byte of each input byte."""
    numbers = np.arange(256) - i.in_zp
    if raw is None:
        return np.clip(numbers + i.out_zp, 0, 255).astype(np.uint8)
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


@dataclass(frozen=True)
class Launch:
    """A checked TP instruction with its map of bytes, good while `table` is in its buffer."""

    i: TPInstruction
    job: I64 | None  # None: nothing moves
    touched: Touched
    map: U8
    table: bytes  # digest of the lookup table, nothing without one

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in memory."""
        return self.map.nbytes + (0 if self.job is None else self.job.nbytes)

    def holds(self, chip: Chip, memory: DeviceMemory, where: str) -> bool:
        """Whether memory still has the lookup table that the map was made of."""
        raw = _table(self.i, chip, memory, where) if self.table else None
        return raw is None or _units.digest(raw) == self.table

    def run(self, memory: DeviceMemory, where: str) -> Touched:
        """Move the pixels."""
        if self.job is None:
            return Touched()
        base, (first, end) = self.i.in_image_base_address, self.touched.read
        image: U8 = np.empty(0, np.uint8)
        if end:
            image = memory.view(base, end - base, f"{where}: input")
        start, stop = self.touched.written
        out = memory.view(start, stop - start, f"{where}: output")
        if first < stop and start < end:
            image = image.copy()  # all is read before anything is written
        _moves.move(image, self.map, out, self.job, start - self.i.out_image_base_address)
        return self.touched


def ready(i: TPInstruction, chip: Chip, memory: DeviceMemory, where: str) -> Launch:
    """Check an instruction and work out what it moves."""
    check(i, where)
    job = _job(i, where)
    if job is None:
        return Launch(i, None, Touched(), np.empty(0, np.uint8), b"")
    first, end, low, high = _moves.extent(job)
    base, start = i.in_image_base_address, i.out_image_base_address
    read = (base + first, base + end) if end else (0, 0)
    raw = _table(i, chip, memory, where) if end else None
    touched = Touched(read, (start + low, start + high))
    table = b"" if raw is None else _units.digest(raw)
    return Launch(i, job, touched, _mapping(i, raw, where), table)
