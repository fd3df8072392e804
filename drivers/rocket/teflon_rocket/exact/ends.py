"""Operations that are not worth the NPU's time, by the model of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from teflon.ir.graph import Graph, Op
from teflon.pipe import Cost
from teflon_common import ends
from teflon_rocket.chips import RATES, Chip
from teflon_rocket.exact.lower import lower


def not_worth_it(graph: Graph, model: Graph, chip: Chip) -> Mapping[Op, str]:
    """Return the operations of a partition that the host should run, with the reason."""

    def costs(part: Graph) -> Iterable[Cost]:
        from teflon_rocket import timing  # for the ends of partitions only

        return timing.predicted(part, lower(part, chip).operations, chip)

    return ends.not_worth_it(graph, model, costs, RATES[chip.name].host)
