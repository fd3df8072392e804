"""Let a FULLY_CONNECTED read the map that a RESHAPE before it flattens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teflon.ir.graph import Graph, Op
from teflon.ir.ops import ExpandDims, FullyConnected, Reshape, Squeeze
from teflon.ir.rewrite import rewrite


@dataclass(frozen=True)
class FoldFlatten:
    """Skip RESHAPE, SQUEEZE and EXPAND_DIMS before a FULLY_CONNECTED, which flattens by itself.

    They stay for other readers; `remove_dead` takes them away where there are none. `accepts` says
    whether the device can run the layer then.
    """

    accepts: Callable[[Op], bool] = lambda op: True
    name: str = "fold_flatten"

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, self._fold)

    def _fold(self, op: Op, graph: Graph) -> Sequence[Op] | None:
        if not isinstance(op, FullyConnected) or op.keep_num_dims:
            return None
        source = op.input
        while isinstance(first := graph.producer(source), Reshape | Squeeze | ExpandDims):
            if first.input.type.quantization != source.type.quantization:
                break
            source = first.input
        if source is op.input:
            return None
        folded = dataclasses.replace(op, input=source)
        return [folded] if self.accepts(folded) else None
