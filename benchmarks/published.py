"""Times that others measured on silicon, and the predictions of our models of time for them.

Ref: docs/hardware/etnaviv.md section 10.4 (blog and merge requests of the driver's author)
Ref: docs/hardware/rocket.md section 8.8; docs/estimate.md says where each figure comes from
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from teflon.compile.artefact import Artefact
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.devices import open_device
from teflon.pipe import Cost
from teflon.samples import models
from teflon.timing.estimate import Estimate, Step, estimate
from teflon_etnaviv import timing as etnaviv
from teflon_rocket import chips
from teflon_rocket import timing as rocket

PLAIN = etnaviv.Variant(compressed=False, image_cache=False)
CODED = etnaviv.Variant(compressed=True, image_cache=False)


@dataclass(frozen=True)
class Published:
    """One measured inference; `low` and `high` differ if the sources do. Their middle is compared.

    fitted: the constants are fitted to this time. bound: it was measured with another compiler,
    which we do not model; it is compared with a lower bound instead (see `bound_ms`).
    """

    chip: str
    model: str
    step: str
    low: float
    high: float
    fitted: bool = False
    variant: etnaviv.Variant = etnaviv.TODAY
    bound: bool = False

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def driver(self) -> str:
        return "rocket" if self.chip == "rk3588" else "etnaviv"


TIMES: Sequence[Published] = (
    Published("a311d", "mobilenet_v1", "no zero compression", 15.65, 15.65, True, PLAIN),
    Published("a311d", "mobilenet_v1", "zero compression", 9.99, 9.99, True, CODED),
    Published("a311d", "mobilenet_v1", "input caching, all channels", 6.6, 6.6, True),
    Published("a311d", "mobilenet_v1", "vendor's driver", 5.5, 5.5, bound=True),
    Published("a311d", "mobiledet", "no zero compression", 56.15, 56.15, False, PLAIN),
    Published("a311d", "mobiledet", "zero compression", 32.69, 32.69, False, CODED),
    Published("a311d", "mobiledet", "input caching, all channels", 24.8, 24.8),
    Published("a311d", "mobiledet", "vendor's driver", 19.5, 19.5, bound=True),
    Published("imx8mp", "mobilenet_v1", "first release", 7.9, 7.9, True),
    Published("imx8mp", "mobiledet", "first release", 24.4, 24.4),
    Published("rk3588", "mobilenet_v1", "one core", 10.8, 11.0, True),
    Published("rk3588", "mobiledet", "one core", 33.0, 38.0),
)

Constants = Mapping[str, float]
"""Values for fields of a driver's Rates, by name."""


def at_hand() -> list[Published]:
    """Return the rows whose models are on this machine."""
    return [row for row in TIMES if models.find(row.model)]


@cache
def compiled(chip: str, model: str) -> Artefact:
    """Return a model compiled for a chip with strategy `mesa`: others measured Mesa."""
    path = models.find(model)
    assert path is not None, "only rows at hand are asked for"
    device = open_device(chip, {"strategy": "mesa"})[0]
    return compile_graph(read_graph(path), device, NONE)


def predicted(row: Published, free: Constants | None = None) -> Estimate:
    """Return the estimate for a row; `free` replaces constants."""
    artefact = compiled(row.chip, row.model)
    whole = estimate(artefact)
    steps: list[Step] = []
    for part, program in zip(artefact.plan.partitions, artefact.programs, strict=True):
        if part.device == 0 and program is not None:
            costs = _costs(row, program, free or {})
            steps += [Step(part.index, row.chip, cost) for cost in costs]
        else:
            steps += [step for step in whole.steps if step.partition == part.index]
    return replace(whole, steps=tuple(steps))


def _costs(row: Published, program: Any, free: Any) -> list[Cost]:
    if row.driver == "rocket":
        return rocket.costs(program, replace(chips.RATES[row.chip], **free))
    return etnaviv.costs(program, replace(etnaviv.RATES[row.chip], **free), row.variant)


def bound_ms(found: Estimate) -> float:
    """Return the milliseconds if fetching and computing overlapped and starting cost nothing."""
    times = [step.cost.milliseconds for step in found.on_chip()]
    return sum(max(ms.get("array", 0.0), ms.get("memory", 0.0)) for ms in times)


def milliseconds(row: Published, free: Constants | None = None) -> float:
    """Return the figure to compare with the published time."""
    found = predicted(row, free)
    return bound_ms(found) if row.bound else found.total_ms
