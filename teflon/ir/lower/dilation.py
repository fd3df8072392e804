"""Make a dilated convolution of SPACE_TO_BATCH_ND, a convolution and BATCH_TO_SPACE_ND.

Converters write a dilated convolution so. Hardware skips pixels as it fetches: no tensor is moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Graph, Op
from teflon.ir.rewrite import only_user, rewrite
from teflon.ir.types import Padding


@dataclass(frozen=True)
class FoldSpaceToBatch:
    """Let a convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND of one block skip pixels.

    Exact where its stride is 1, all three keep the quantisation, and no more is cut away than was
    added. What it leaves without readers `remove_dead` takes away. `accepts` says whether the
    device can run the dilated convolution.
    """

    accepts: Callable[[Op], bool] = lambda op: True
    name: str = "fold_space_to_batch"

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, self._fold)

    def _fold(self, op: Op, graph: Graph) -> Sequence[Op] | None:
        if not isinstance(op, ops.BatchToSpace):
            return None
        middle = graph.producer(op.input)
        if not isinstance(middle, ops.Conv2D | ops.DepthwiseConv2D) or middle.stride != (1, 1):
            return None
        first = graph.producer(middle.input)
        if not isinstance(first, ops.SpaceToBatch) or only_user(graph, op.input) is not op:
            return None
        return self._folded(first, middle, op)

    def _folded(
        self, first: ops.SpaceToBatch, middle: ops.Conv2D | ops.DepthwiseConv2D,
        last: ops.BatchToSpace,
    ) -> Sequence[Op] | None:  # fmt: skip
        if first.block != last.block or len(first.block) != 2:
            return None
        kinds = [(v.type.dtype, v.type.quantization) for v in (first.input, middle.input)]
        ends = [(v.type.dtype, v.type.quantization) for v in (middle.output, last.output)]
        padding = _padding(first, middle.padding, last)
        sides = (padding.top, padding.bottom, padding.left, padding.right)
        if kinds[0] != kinds[1] or ends[0] != ends[1] or min(sides) < 0:
            return None
        changes: dict[str, Any] = {
            "input": first.input,
            "output": last.output,
            "padding": padding,
            "dilation": (
                middle.dilation[0] * first.block[0],
                middle.dilation[1] * first.block[1],
            ),
            "location": middle.where,
        }
        folded: Op = dataclasses.replace(middle, **changes)
        return [folded] if not folded.verify() and self.accepts(folded) else None


fold_space_to_batch = FoldSpaceToBatch()
"""Fold whatever can be folded exactly."""


def _padding(first: ops.SpaceToBatch, inside: Padding, last: ops.BatchToSpace) -> Padding:
    """Return the padding of the whole; the convolution's own is that of each small image."""
    height, width = first.block
    return Padding(
        first.before[0] + inside.top * height - last.before[0],
        first.after[0] + inside.bottom * height - last.after[0],
        first.before[1] + inside.left * width - last.before[1],
        first.after[1] + inside.right * width - last.after[1],
    )
