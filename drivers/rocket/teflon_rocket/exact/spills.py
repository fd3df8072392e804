# Ref: docs/hardware/rocket.md §6.1, §6.3 (what the DPU writes); docs/hardware/rocket_vendor.md §0.5
"""How many surfaces behind its own the operation that makes a value may write.

The DPU pads the channels of a convolution to 32, of a depthwise one to 64; where not even the
weights of 32 kernels fit, 16 are made at a time and padded to 32. A pass writes its own surfaces.
"""

from __future__ import annotations

from collections.abc import Mapping

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, ResizeNearestNeighbor
from teflon_common.boxes import CHANNELS, Cutting, Reshaping, cuts, same_pixels
from teflon_common.layout import LANES, image_shape

MOST = 3
"""Of any operation: those of 64 channels, where one is its own."""

_KERNEL_BYTES = 3072
"""Of a kernel that is not cut in parts."""
_ROWS_BYTES = 1 << 16
"""Of the rows of a window, which fit beside 32 such kernels."""
_DIRECT, _DEPTHWISE = 32, 64


def spilled(graph: Graph, hosts: Mapping[Op, Op], value: Value) -> int:
    """Return the surfaces; hosts: the convolutions that do an addition."""
    producer = graph.producer(value)
    while isinstance(producer, Reshaping):
        shapes = producer.input.shape, producer.output.shape
        if not same_pixels(*map(image_shape, shapes)):
            return MOST
        producer = graph.producer(producer.input)
    if isinstance(producer, Add):
        if producer not in hosts:
            return 0
        producer = hosts[producer]
    channels = image_shape(value.shape)[CHANNELS]
    if isinstance(producer, ResizeNearestNeighbor):
        return 0
    if isinstance(producer, Cutting) and _copies_surfaces(producer):
        return 0
    if isinstance(producer, Conv2D) and _fits(producer):
        return _padding(channels, _DIRECT)
    if isinstance(producer, DepthwiseConv2D) and _fits(producer):
        return _padding(channels, _DEPTHWISE)
    return MOST


def _padding(channels: int, to: int) -> int:
    padded = -(-channels // to) * to
    return padded // LANES - -(-channels // LANES)


def _copies_surfaces(op: Cutting) -> bool:
    """Whether parts are whole surfaces, so that no convolution chooses channels."""
    return all(c.begin[CHANNELS] % LANES == 0 and c.steps[CHANNELS] == 1 for c in cuts(op))


def _fits(op: Conv2D | DepthwiseConv2D) -> bool:
    """Whether 32 kernels, and the rows of a window, certainly fit the convolution buffer."""
    _, high, wide, _ = op.weights.shape
    _, _, width, channels = op.input.shape
    row, padding = -(-channels // LANES) * LANES, op.padding
    rows = ((high - 1) * op.dilation[0] + 1) * width * row
    partial = padding.right < wide and padding.bottom < high
    small = high * wide * row <= _KERNEL_BYTES or isinstance(op, DepthwiseConv2D)
    return partial and small and rows <= _ROWS_BYTES
