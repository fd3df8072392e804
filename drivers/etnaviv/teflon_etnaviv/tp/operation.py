"""What the operations of the TP cores have in common; each kind is a class of its own.

Ref: docs/hardware/etnaviv.md section 5
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_tp.c
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from teflon_etnaviv import cmdstream
from teflon_etnaviv.cmdstream import Stream
from teflon_etnaviv.engine import Engine
from teflon_etnaviv.operations import Work
from teflon_etnaviv.rounding import cdiv
from teflon_etnaviv.tp.engine import TP_CORES

OTHERS_FOLLOW = 8
"""What some kinds write to UNK03950 before a job beside which another one runs.

Ref: docs/hardware/etnaviv.md section 2.6
"""


class TP(Work):
    """Moves bytes from one tensor to another, with one job or with several side by side."""

    unit: ClassVar[str] = "TP"
    engine: ClassVar[Engine] = TP_CORES
    mark: ClassVar[int] = 0
    """What is written to UNK03950 before every job but the last."""

    def start(self, stream: Stream, places: Sequence[tuple[int, int]]) -> None:
        cmdstream.emit_tp(stream, places, self.mark)


@dataclass(frozen=True)
class Share:
    """The planes that one of several jobs takes, and whether it is the last job."""

    planes: int
    first: int
    is_last: bool


def shares(planes: int, jobs: int) -> Iterator[Share]:
    """Yield what each job takes. With more jobs than planes the last ones take none."""
    first = 0
    for number in range(jobs):
        is_last = number == jobs - 1
        count = planes - first if is_last else cdiv(planes - first, jobs - number)
        yield Share(count, first, is_last)
        first += count
