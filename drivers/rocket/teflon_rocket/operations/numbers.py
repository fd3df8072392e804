# Ref: docs/hardware/rocket.md §4.4 to §4.6, §7.2 to §7.4, §8.4 (stages)
"""What quantisation makes of an operation: numbers for the converters and clamps of the units."""

from __future__ import annotations

from typing import NamedTuple

from teflon_rocket.operations.data import Feature


class Converter(NamedTuple):
    """What a converter adds, multiplies by and shifts right by, as it stands in the registers.

    The order depends on the unit: DPU.EW adds before it multiplies, DPU.OUT_CVT afterwards.
    """

    offset: int
    scale: int
    shift: int


class Operand(NamedTuple):
    """What the DPU's EW stage adds: a feature map, and how it becomes accumulator units."""

    feature: Feature
    converter: Converter


class Clamps(NamedTuple):
    """Limits on the accumulator, beyond the saturation of the output converter.

    BS: v += bias - origin, then max(v, 0) if `relu`, min(v, ceiling) if set; BN: v += shift.
    EW, after the addition: max(v, 0) if `late_relu`, min(v, late_ceiling) if set.
    """

    origin: int = 0
    relu: bool = False
    ceiling: int | None = None
    shift: int = 0
    late_relu: bool = False
    late_ceiling: int | None = None


NO_CLAMPS = Clamps()
