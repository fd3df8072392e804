# Ref: docs/hardware/rocket_vendor.md §0.7, §1 (LUT load, LUT registers and table formulas)
"""A function of one byte, as a lookup table of the DPU.

The DPU has two tables of 513 numbers, LE for negative values and LO for others, 32 steps from one
entry to the next, and draws straight lines between entries. BN multiplies a byte by 128, so that
each of the 256 bytes meets an entry, and the result is exactly the one in the table.

The vendor's compiler loads the table before each use, and so does this operation: its tasks are
pairs, one that loads and one that computes an image.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from teflon.ir.types import Array
from teflon_rocket.operations.commands import Commands
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.passes import Pass, Size
from teflon_rocket.operations.stages import Source, Stage
from teflon_rocket.registers import DPU, DPU_RDMA, command

ENTRIES = 513
"""Entries of one table."""

_STEP = 5  # log2 of the distance of two entries
_REACH = 1 << 14  # the tables go from -_REACH to _REACH
_EACH = 4  # entries from one byte to the next
_LE, _LO = 0, 1
_LO_FOR_POSITIVE = 2  # LUT_LO_LE_MUX

_EMPTY = np.uint64(command(DPU.LUT_ACCESS_DATA()))
_VALUE = np.uint64(16)  # the bit at which the value begins in a command

SPREAD = Stage(add=0, factor=0x4000, shift=7)
"""BN: a byte times 128."""


def entries(values: Array) -> tuple[Array, Array]:
    """Return LE and LO, int16 [513], of the results for the bytes -128 to 127 in this order."""
    numbers = np.append(values.astype(np.int64), values[-1])
    bytes_of = np.arange(2 * ENTRIES - 1) / _EACH
    every = np.rint(np.interp(bytes_of, np.arange(len(numbers)), numbers)).astype(np.int16)
    return every[:ENTRIES], every[ENTRIES - 1 :]


@dataclass(frozen=True, eq=False, kw_only=True)
class Table(Pass):
    """A pass that replaces each byte; `values`: int8 [256], what -128 to 127 become."""

    values: Array
    bn: Stage = SPREAD

    @cached_property
    def _pixels(self) -> tuple[Feature, Feature]:
        """The first pixel that is read, and the first one that is written."""
        source, target = (
            dataclasses.replace(
                part.feature.part(self.name, (self.size.images, 1, 1, 1), part.offset(0)), pitch=1
            )
            for part in (self.source, self.target)
        )
        return source, target

    @property
    def reads(self) -> tuple[Feature, ...]:
        return (self.source.feature, self._pixels[0])

    @property
    def writes(self) -> tuple[Feature, ...]:
        return (self.target.feature, self._pixels[1])

    @property
    def tasks(self) -> int:
        return 2 * self.size.images

    def emit(self, task: int, commands: Commands) -> None:
        image, computes = divmod(task, 2)
        if computes:
            super().emit(image, commands)
        else:
            self._load(image, commands)

    def _load(self, image: int, c: Commands) -> None:
        """Copy one pixel, which the next task overwrites, and write the table."""
        inside, outside = map(Source, self._pixels)
        Pass(self.name, inside, outside, Size(self.size.images, 1, 1, 1)).emit(image, c)
        for table, numbers in zip((_LE, _LO), entries(self.values), strict=True):
            c.write(DPU.LUT_ACCESS_CFG, LUT_TABLE_ID=table, LUT_ACCESS_TYPE=1)
            words = (
                numbers.astype("<i4").view("<u4").astype(np.uint64)
            )  # signs as the vendor has them
            c.words += (_EMPTY | words << _VALUE).tolist()

    def emit_pointers(self, c: Commands) -> None:
        for pointer in (DPU.S_POINTER, DPU_RDMA.RDMA_S_POINTER):
            c.write(pointer, POINTER_PP_CLEAR=1, EXECUTER_PP_CLEAR=1)

    def emit_ew(self, c: Commands) -> None:
        c.write(DPU.EW_CFG, EW_OP_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_RELU_BYPASS=1)
        c.clear(DPU.EW_CVT_OFFSET_VALUE)
        c.write(DPU.EW_CVT_SCALE_VALUE, EW_OP_CVT_SCALE=1)
        c.clear(DPU.EW_RELUX_CMP_VALUE)

    def emit_table(self, c: Commands) -> None:
        c.clear(DPU.LUT_ACCESS_CFG, DPU.LUT_ACCESS_DATA)
        c.write(
            DPU.LUT_CFG,
            LUT_LO_LE_MUX=_LO_FOR_POSITIVE,
            LUT_OFLOW_PRIORITY=_LO,
            LUT_HYBRID_PRIORITY=_LO,
        )
        c.write(DPU.LUT_INFO, LUT_LE_INDEX_SELECT=_STEP, LUT_LO_INDEX_SELECT=_STEP)
        c.write(DPU.LUT_LE_START, LUT_LE_START=-_REACH & 0xFFFFFFFF)
        c.clear(DPU.LUT_LE_END, DPU.LUT_LO_START)
        c.write(DPU.LUT_LO_END, LUT_LO_END=_REACH)
        c.clear(
            DPU.LUT_LE_SLOPE_SCALE,
            DPU.LUT_LE_SLOPE_SHIFT,
            DPU.LUT_LO_SLOPE_SCALE,
            DPU.LUT_LO_SLOPE_SHIFT,
        )

    @property
    def kind(self) -> str:
        return "table"

    def does(self, task: int) -> str:
        image, computes = divmod(task, 2)
        return f"image {image}" if computes else "load the table for"
