"""What the lowering of one operation may know of the graph around it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from teflon.ir.graph import Op, Value
from teflon_common.rules import Rules
from teflon_rocket.chips import Chip
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature


class Sum(NamedTuple):
    """How a convolution does an addition: `other` is added to `mine`, which `host` makes."""

    host: Op
    mine: Value
    other: Value


@dataclass(frozen=True)
class Lowering:
    """A chip, the feature map of every computed value, and which additions convolutions do.

    gathered: for concatenations, the map in which their inputs lie beside each other in whole
    surfaces, where that is not the result's. bends: for LEAKY_RELU and PRELU that a convolution
    does, that convolution.
    """

    chip: Chip
    features: Mapping[Value, Feature]
    sums: Mapping[Op, Sum]
    gathered: Mapping[Op, Feature] = field(default_factory=dict)
    bends: Mapping[Op, Op] = field(default_factory=dict)

    @cached_property
    def hosts(self) -> frozenset[Op]:
        """Operations that are lowered together with the addition or activation that follows."""
        return done_together(self.sums, self.bends)

    @cached_property
    def added(self) -> frozenset[Feature]:
        """The feature maps that are added to others."""
        return frozenset(self.features[found.other] for found in self.sums.values())


def done_together(sums: Mapping[Op, Sum], bends: Mapping[Op, Op]) -> frozenset[Op]:
    """Return the operations that are lowered together with the one that reads their result."""
    return frozenset(found.host for found in sums.values()) | set(bends.values())


Lower = Callable[[Any, Lowering], Iterable[Operation]]
"""Lowers one operation; the first parameter is called `op` and has its class."""

Family = Rules[Chip, Lower]
"""The rules of a family of operations: what is taken, and how it is lowered."""
