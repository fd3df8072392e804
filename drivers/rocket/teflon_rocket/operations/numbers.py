# Ref: docs/hardware/rocket_vendor.md §0.1 to §0.3, §0.6 (stages with an operand for each channel)
# Ref: docs/hardware/rocket.md §4.4 to §4.6, §7.2 to §7.4, §8.4 (stages)
"""What quantisation makes of an operation: numbers for the converters and clamps of the units."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple, Self

from teflon.ir.types import Array
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.operations.stages import OFF, Kind, Stage


class Converter(NamedTuple):
    """What a converter adds, multiplies by and shifts right by, as it stands in the registers.

    The order depends on the unit: DPU.EW adds before it multiplies, DPU.OUT_CVT afterwards.
    """

    offset: int
    scale: int
    shift: int


class Operand(NamedTuple):
    """What the DPU's EW stage adds to a result, compares it with or multiplies it by: a feature
    map, and how it becomes accumulator units.

    constant: bytes that lie like one image of `feature` without gaps, and stand for it.
    """

    feature: Feature
    converter: Converter
    kind: Kind = Kind.ADD
    constant: Constant | None = None


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


@dataclass(frozen=True, eq=False)
class Channels:
    """What BS and BN do with each output channel by itself.

    BS: (sum + compensation * sum of the window's inputs + bias) * factor >> the shift of `bs`, and
    its limits. BN: `bn`; where `late` is set, it multiplies each channel by its own factor.
    compensation: int16, factor: below 2^15, late: int16; all are [output channels]. Of `bs` only
    the shifts and the limits count.
    """

    compensation: Array
    factor: Array
    bs: Stage
    bn: Stage = OFF
    late: Array | None = None

    def part(self, some: slice) -> Self:
        """Return what is done with some of the channels."""
        late = None if self.late is None else self.late[some]
        return dataclasses.replace(
            self, compensation=self.compensation[some], factor=self.factor[some], late=late
        )
