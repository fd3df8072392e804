# Ref: docs/hardware/rocket_vendor.md §1 (LUT load, LUT registers and table formulas)
"""The DPU's two tables: how a command list loads them, and the look-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from teflon.errors import SimulatorFault
from teflon_common.registers import Register
from teflon_rocket.registers import DPU

from .rounding import round_shift
from .stages import Lut, Scale

ENTRIES = 513
_STEP = 5
"""log2 of the distance of two entries."""
_SIGN = (1 << 17) - 1
"""The upper bits of a negative entry, where they follow its sign as in the vendor's lists."""
_END = 1 << 14
"""LE covers -_END to 0, LO covers 0 to _END."""


@dataclass(frozen=True)
class Tables:
    """The entries of LE and LO, int16 as bytes; two tables of equal content are equal."""

    low: bytes
    high: bytes

    @cached_property
    def entries(self) -> NDArray[np.int64]:
        """Those of LE, then those of LO."""
        return np.frombuffer(self.low + self.high, "<i2").astype(np.int64)

    @cached_property
    def every(self) -> NDArray[np.int16]:
        """What they say of each number from -16384 to 16384: between entries a line, to even."""
        entries = self.entries
        t = np.arange(-_END, _END + 1)
        place = np.where(t < 0, t + _END, t)
        index = np.minimum(place >> _STEP, ENTRIES - 2)
        rest, index = place - (index << _STEP), index + np.where(t < 0, 0, ENTRIES)
        step = (entries[index + 1] - entries[index]) * rest
        value: NDArray[np.int16] = (entries[index] + round_shift(step, _STEP, False)).astype("i2")
        return value

    def look_up(self, t: NDArray[np.int64], lut: Lut) -> NDArray[np.int64]:
        """Return what the tables make of values, beyond their range along the slopes."""
        value = self.every[np.clip(t, -_END, _END) + _END].astype(np.int64)
        value = value + _beyond(np.minimum(t + _END, 0), lut.below)
        value = value + _beyond(np.maximum(t - _END, 0), lut.above)
        return np.maximum(value, 0) if lut.floor else value


def _beyond(distance: NDArray[np.int64], slope: Scale) -> NDArray[np.int64]:
    return round_shift(distance * slope.multiplier, slope.shift, False)


@dataclass
class _Port:
    """The access port while a list is read: entries go where its last LUT_ACCESS_CFG says."""

    values: dict[int, list[int]] = field(default_factory=dict)
    table: int | None = None

    def configure(self, value: int) -> None:
        access = DPU.LUT_ACCESS_CFG.unpack(value)
        self.table = None
        if value == 0:
            return
        if not access.LUT_ACCESS_TYPE or access.LUT_ADDR or access.LUT_TABLE_ID in self.values:
            raise SimulatorFault(
                f"DPU.LUT_ACCESS_CFG: is #{value:x}, must write a table from entry 0 on, each"
                " table once (others are not modelled)"
            )
        self.table = access.LUT_TABLE_ID
        self.values[self.table] = []

    def write(self, value: int) -> None:
        if value >> 15 not in (0, 1, _SIGN) or (self.table is None and value):
            raise SimulatorFault(
                f"DPU.LUT_ACCESS_DATA: is #{value:x}, must be an entry of 16 bits behind a"
                " LUT_ACCESS_CFG that writes"
            )
        if self.table is not None:
            self.values[self.table].append(value & 0xFFFF)


def load(accesses: Sequence[tuple[type[Register], int]]) -> Tables | None:
    """Return the tables that a list writes, None where it writes none.

    Raises SimulatorFault unless both are written, whole.
    """
    port = _Port()
    for register, value in accesses:
        if register is DPU.LUT_ACCESS_CFG:
            port.configure(value)
        else:
            port.write(value)
    if not port.values:
        return None
    sizes = [len(port.values.get(table, ())) for table in (0, 1)]
    if sizes != [ENTRIES, ENTRIES]:
        raise SimulatorFault(
            f"DPU.LUT_ACCESS_DATA: {sizes[0]} and {sizes[1]} entries of the tables are written,"
            f" must be {ENTRIES} of each"
        )
    low, high = (np.array(port.values[table], "<u2").tobytes() for table in (0, 1))
    return Tables(low, high)
