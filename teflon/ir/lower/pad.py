"""Let a convolution do the work of the PAD before it: hardware pads as it fetches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from teflon.ir.graph import Graph, Op
from teflon.ir.ops import Conv2D, DepthwiseConv2D, Pad
from teflon.ir.rewrite import rewrite
from teflon.ir.types import Padding


@dataclass(frozen=True)
class FoldPad:
    """Add a PAD's rows and columns to the padding of the convolutions that read it.

    Exact where it grows height and width only, and fills with the zero point: a convolution's own
    padding contributes zero, and so do such elements. The PAD stays for its other readers;
    `remove_dead` takes it away where there are none. `accepts` says whether the device can run the
    folded convolution.
    """

    accepts: Callable[[Op], bool] = lambda op: True
    name: str = "fold_pad"

    def __call__(self, graph: Graph) -> Graph:
        return rewrite(graph, self._fold)

    def _fold(self, op: Op, graph: Graph) -> Sequence[Op] | None:
        if not isinstance(op, Conv2D | DepthwiseConv2D):
            return None
        pad = graph.producer(op.input)
        if not isinstance(pad, Pad) or not _pads_with_zeros(pad):
            return None
        (top, left), (bottom, right) = pad.before[1:3], pad.after[1:3]
        have = op.padding
        padding = Padding(
            have.top + top, have.bottom + bottom, have.left + left, have.right + right
        )
        folded = dataclasses.replace(op, input=pad.input, padding=padding)
        return [folded] if self.accepts(folded) else None


fold_pad = FoldPad()
"""Fold whatever can be folded exactly."""


def _pads_with_zeros(pad: Pad) -> bool:
    outside = [pad.before[0], pad.before[-1], pad.after[0], pad.after[-1]]
    if pad.input.type.rank != 4 or any(outside) or min(pad.before + pad.after) < 0:
        return False
    if pad.input.type.quantization != pad.output.type.quantization:
        return False
    if pad.value is None:
        return True
    data = pad.value.data
    return data is not None and data.size == 1 and data.item() == pad.output.type.zero_point
