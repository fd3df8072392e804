"""Strategy exact: computes what the model says, within one step of TFLite's reference kernels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from teflon.errors import EncodingError, UnsupportedOperation
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.lower import (
    FoldFlatten,
    FoldPad,
    FoldSpaceToBatch,
    FoldTables,
    level_channels,
    order_operations,
    remove_dead,
)
from teflon.ir.passes import Pass
from teflon.pipe import Cost
from teflon_common.ends import LAUNCH, not_worth_it
from teflon_common.strategy import EXACT
from teflon_etnaviv import variants
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.emission import build
from teflon_etnaviv.exact import batches
from teflon_etnaviv.exact.grouping.equalise import equalised
from teflon_etnaviv.exact.grouping.modes import MODES
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.memory import together
from teflon_etnaviv.exact.rules import RULES
from teflon_etnaviv.grouped import remarks
from teflon_etnaviv.operations import Lowered
from teflon_etnaviv.program import EtnavivProgram
from teflon_etnaviv.strategy import EtnavivStrategy


class ExactStrategy(EtnavivStrategy):
    """Options: `arena`, `perchannel`, and the formats that nobody has confirmed (`variants.py`)."""

    name = EXACT

    def __init__(self, options: Mapping[str, str]) -> None:
        self._shares = options.get("arena", "on") != "off"
        self._mode = MODES[options.get("perchannel", "balanced")]
        self._variants = variants.wanted(options)

    def described(self, chip: Chip) -> Chip:
        return variants.described(chip, self._variants)

    @property
    def signature(self) -> str:
        arena = [] if self._shares else ["arena off"]
        return " ".join([self.name, self._mode.name, *arena, *self._variants])

    def passes(self, chip: Chip) -> Sequence[Pass]:
        """Convolutions pad as they read and need no batches to be dilated, a fully connected layer
        takes a map as its bytes lie; a chain of functions of one byte is one table.
        """

        def accepts(op: Op) -> bool:
            return not RULES.reasons(batches.single(op), chip)

        maps = (FoldSpaceToBatch(accepts), FoldPad(accepts), FoldFlatten(accepts))
        return (level_channels, *maps, FoldTables(accepts), remove_dead, order_operations)

    def reasons(self, op: Op, graph: Graph, chip: Chip) -> list[str]:
        return RULES.reasons(batches.single(op), chip)

    def notes(self, graph: Graph, chip: Chip) -> Sequence[str]:
        try:
            lowered = self._lowered(graph, chip)
        except (EncodingError, UnsupportedOperation):
            return ()  # compiling says why
        return tuple(remarks(lowered.grouped))

    def leave(self, graph: Graph, model: Graph, chip: Chip) -> Mapping[Op, str]:
        from teflon_etnaviv import rates, timing  # for the ends of partitions only

        def costs(part: Graph) -> Iterable[Cost]:
            submit = Cost("submit", "npu", milliseconds={LAUNCH: rates.SUBMIT})
            return (*timing.costs(self.compile(part, chip)), submit)

        known = rates.RATES.get(chip.name)
        return not_worth_it(graph, model, costs, known.host) if known else {}

    def absorbed(self, graph: Graph, chip: Chip) -> Collection[Value]:
        """Every operation writes bytes, and the next one reads them."""
        return ()

    def compile(self, graph: Graph, chip: Chip) -> EtnavivProgram:
        """Raises EncodingError, and UnsupportedOperation for an operation that no rule lowers."""
        lowered = self._lowered(graph, chip)
        pack = partial(together, chip=chip, shares=self._shares)
        return build(graph, lowered, chip, self.name, pack)

    def _lowered(self, graph: Graph, chip: Chip) -> Lowered:
        if self._mode.adapts:
            graph = equalised(graph)
        return Lowering(graph, chip, mode=self._mode).run(RULES)
