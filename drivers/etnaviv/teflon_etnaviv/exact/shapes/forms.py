"""Which form a convolution takes, decided by sizes alone.

Ref: docs/hardware/etnaviv.md sections 1.3 (largest kernel), 3.1, 3.2 (field widths), 4.1, 4.2
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.rounding import cdiv

Convolution = Conv2D | DepthwiseConv2D
Pair = tuple[int, int]
"""Numbers along (height, width)."""


class Form(enum.Enum):
    """How a convolution is computed."""

    PLAIN = "as it is, dilated kernels filled up"
    PICKED = "a kernel of one element: strides pick elements of the input first"
    THINNED = "at strides of 1, of which strides pick results"
    PHASES = "over blocks brought into channels, several outputs at a time"
    SPACE = "a dilated one on the images that it skips to, one below the other"


@dataclass(frozen=True)
class Phases:
    """Sizes of a convolution over blocks.

    times: outputs that are computed from the same blocks, in channels; step: rows and columns of a
    block; kernel: blocks that a kernel looks at; count: outputs in channels' places.
    """

    times: Pair
    step: Pair
    kernel: Pair
    count: Pair

    @property
    def blocks(self) -> Pair:
        """Rows and columns of blocks that all outputs look at."""
        return self.count[0] + self.kernel[0] - 1, self.count[1] + self.kernel[1] - 1


def filled(op: Convolution) -> Pair:
    """Return rows and columns of the kernel with the elements that dilation skips."""
    high, wide = op.weights.shape[1:3]
    return (high - 1) * op.dilation[0] + 1, (wide - 1) * op.dilation[1] + 1


def is_depthwise(op: Convolution) -> bool:
    """Whether a kernel looks at one channel of several."""
    if isinstance(op, DepthwiseConv2D):
        return True
    return op.weights.shape[3] == 1 and op.input.shape[3] > 1


def over_pairs(op: Convolution) -> bool:
    """Whether strides of 2 are computed over 2x2 blocks, not at strides of 1."""
    return op.stride == (2, 2) and not is_depthwise(op) and filled(op) != (1, 1)


def form(op: Convolution, chip: Chip) -> Form:
    """Return the form of a convolution; `phases` says whether PHASES has one."""
    most = chip.kernel_size_max * (2 if over_pairs(op) else 1)
    is_small = max(filled(op)) <= most
    if is_small and op.stride in ((1, 1), (2, 2)):
        return Form.PLAIN
    pads = (op.padding.top, op.padding.bottom, op.padding.left, op.padding.right)
    if op.weights.shape[1:3] == (1, 1) and not any(pads):
        return Form.PICKED
    if is_small and is_depthwise(op):
        return Form.THINNED
    dilated = op.dilation != (1, 1) and max(op.weights.shape[1:3]) <= chip.kernel_size_max
    return Form.SPACE if dilated and op.stride == (1, 1) else Form.PHASES


def phases(op: Convolution, chip: Chip) -> Phases | None:
    """Return the smallest blocks over which kernels are within the limit; None where they or the
    results are too many planes.
    """
    (high, wide), (down, across) = filled(op), op.stride
    axes = zip((high, wide), (down, across), op.output.shape[1:3], strict=True)
    found = [next(_along(k, s, n, chip), None) for k, s, n in axes]
    rows, columns = found
    if rows is None or columns is None:
        return None
    pairs = [(y, x) for y, x in zip(rows, columns, strict=True)]
    made = Phases(*pairs)
    planes = op.input.shape[3] * made.step[0] * made.step[1]
    results = op.output.shape[3] * made.times[0] * made.times[1]
    return made if max(planes, results) <= chip.nn_planes_max else None


def _along(kernel: int, stride: int, count: int, chip: Chip) -> Iterator[tuple[int, ...]]:
    """Yield (times, step, kernel, count) along an axis, the smallest blocks first."""
    for times in itertools.takewhile(lambda n: n <= kernel, itertools.count(1)):
        step = stride * times
        blocks = (stride * (times - 1) + kernel - 1) // step + 1
        if blocks <= chip.kernel_size_max:
            yield times, step, blocks, cdiv(count, times)


def space(op: Convolution) -> Pair:
    """Return rows and columns of the small images that a dilated convolution skips to."""
    high, wide = (
        cdiv(n, d) + k - 1
        for n, d, k in zip(op.output.shape[1:3], op.dilation, op.weights.shape[1:3], strict=True)
    )
    return high, wide
