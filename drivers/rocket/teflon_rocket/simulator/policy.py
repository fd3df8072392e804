# Ref: docs/hardware/rocket.md §8.9 (what a strict simulator rejects)
# Ref: docs/hardware/rocket_vendor.md finding 4 (depthwise rows)
"""What happens to programs that break rules of the hardware: refused, or run with a note."""

import enum
from dataclasses import dataclass, field

from teflon.errors import SimulatorFault


class Breach(enum.Enum):
    """Rules that programs break, most of them Mesa's; the value says what the hardware does."""

    DATA_ENTRIES = "DATA_ENTRIES below the rule of three atoms: rows are garbage (inferred)"
    PAD_BYTES = "pad value with two different bytes: odd channels get the second one (inferred)"
    EMPTY_TASK = "a task without output rows: undefined"
    BUFFER_FIT = "features beyond their banks: rows are garbage (inferred)"
    WIDTH_ONE = "width 1 and the last feature bank 97 % full: last rows are garbage (measured)"
    DEPTHWISE_ROWS = (
        "depthwise weight rows of 48 bytes: the hardware takes 64 for a row (its reports of wrong"
        " results are at such widths)"
    )
    INTERLEAVED_ROWS = (
        "rows of few channels counted without rounding up to 16 pixels: the hardware takes whole 16"
        " pixels for a row (inferred)"
    )
    WEIGHT_FIT = "weights to be reused are larger than their banks: garbage (inferred)"
    SURFACE_PITCH = "a pass reads surfaces that are not whole 64 bytes apart: undefined (inferred)"


@dataclass(frozen=True)
class Policy:
    """Which breaches are tolerated: the task runs as the hardware most likely would run it."""

    tolerated: frozenset[Breach] = frozenset()


STRICT = Policy()
LENIENT = Policy(frozenset(Breach))


@dataclass(frozen=True)
class Deviation:
    """A tolerated breach: which rule, and register, value and limit in words."""

    breach: Breach
    text: str


@dataclass
class Findings:
    """Judges the breaches of one task by a policy and keeps the tolerated ones."""

    policy: Policy
    deviations: list[Deviation] = field(default_factory=list)

    def breach(self, breach: Breach, text: str) -> None:
        """Note a broken rule; raises SimulatorFault unless the policy tolerates it."""
        if breach not in self.policy.tolerated:
            raise SimulatorFault(text)
        self.deviations.append(Deviation(breach, text))
