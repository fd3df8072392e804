"""Operations that are not worth the NPU's time, by the model of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from teflon.ir.graph import Graph, Op
from teflon.pipe import Cost
from teflon_common import ends
from teflon_rocket.chips import Rates
from teflon_rocket.program import RocketProgram

Compile = Callable[[Graph], RocketProgram]


def not_worth_it(graph: Graph, model: Graph, compiled: Compile, rates: Rates) -> Mapping[Op, str]:
    """Return the operations of a partition that the host should run, with the reason."""

    def costs(part: Graph) -> Iterable[Cost]:
        from teflon_rocket import timing  # for the ends of partitions only

        return timing.costs(compiled(part))

    return ends.not_worth_it(graph, model, costs, rates.host)
