# Ref: docs/hardware/rocket_vendor.md §1 (kernels of at most 3072 bytes), §2 (channels that are no
# Ref: multiple of 16)
"""1x1 convolutions that choose channels: each channel of the result is one of the input."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_rocket.exact.copies import seen
from teflon_rocket.exact.layers import Layer
from teflon_rocket.exact.scales import Affine
from teflon_rocket.operations.convolution import Coefs, Geometry
from teflon_rocket.operations.data import Feature

NO_CHANNEL = -1
_ZERO, _ONE = 128, 129
_ALL = (0, 255)
_GROUP = 32  # channels that a convolution writes at a time
_KERNEL_BYTES = 3072
_WEIGHT_BYTES = 1 << 17


def selections(
    name: str,
    source: Feature,
    output: Feature,
    chosen: Array,
    inside: Affine,
    result: Affine,
    filler: int = 0,
) -> Iterator[Layer]:
    """Yield the layers that make channel i of `output` of channel chosen[i] of `source`.

    chosen: [output channels]; where it is NO_CHANNEL, the result is its zero point plus `filler`
    steps, which needs one scale for both. Where a kernel or all weights would be large, each layer
    makes some channels of those that they need.
    """
    count = len(chosen)
    group = count
    while group > _GROUP and not _is_small(source, chosen, group):
        group = -(-group // 2 // _GROUP) * _GROUP
    for first in range(0, count, group):
        some = chosen[first : first + group]
        begin, end = _surfaces(some, source)
        shape = (*source.shape[:3], min(end * LANES, source.shape[3]) - begin * LANES)
        read = seen(source, shape, source.surface_pixels, begin * source.surface_bytes)
        start = first // LANES * output.surface_bytes
        written = seen(output, (*output.shape[:3], len(some)), output.surface_pixels, start)
        if len(some) == count:
            read, written = (source if shape == source.shape else read), output
        some = np.where(some == NO_CHANNEL, some, some - begin * LANES)
        yield _layer(name, read, written, some, inside, result, filler)


def _is_small(source: Feature, chosen: Array, group: int) -> bool:
    """Whether the layers of so many channels have kernels and weights of moderate size."""
    starts = range(0, len(chosen), group)
    ends = (_surfaces(chosen[first : first + group], source) for first in starts)
    widest = max(end - begin for begin, end in ends) * LANES
    return widest <= _KERNEL_BYTES and widest * group <= _WEIGHT_BYTES


def _surfaces(chosen: Array, source: Feature) -> tuple[int, int]:
    """Return the first surface that holds a chosen channel, and the one after the last."""
    used = chosen[chosen != NO_CHANNEL]
    if not used.size:
        return 0, 1
    return int(used.min()) // LANES, int(used.max()) // LANES + 1


def _layer(
    name: str, source: Feature, output: Feature, chosen: Array, inside: Affine, result: Affine,
    filler: int,
) -> Layer:  # fmt: skip
    channels = source.shape[3]
    weights = np.full((len(chosen), 1, channels), _ZERO, np.uint8)
    (some,) = np.nonzero(chosen != NO_CHANNEL)
    weights[some, 0, chosen[some]] = _ONE
    bias = np.where(chosen == NO_CHANNEL, filler, 0).astype(np.int64)
    images, height, width, _ = output.shape
    geometry = Geometry(
        width, height, channels, width, height, output.shape[3], images=images,
        rows=source.layout == "rows",
    )  # fmt: skip
    coefs = Coefs(weights, _ZERO, bias, inside.zero, False)
    return Layer(name, source, output, geometry, coefs, inside.scale, result, _ALL)


def spaced_lanes(channels: int, groups: int) -> Array:
    """Return the lane of each channel where each of some groups begins with a surface."""
    spacing = -(-channels // LANES) * LANES
    lanes: Array = (np.arange(groups)[:, None] * spacing + np.arange(channels)).reshape(-1)
    return lanes


def spread_channels(channels: int, groups: int) -> Array:
    """Return what `selection` chooses to let each group of channels begin with a surface."""
    lanes = spaced_lanes(channels, groups)
    chosen = np.full(-(-channels // LANES) * LANES * groups, NO_CHANNEL)
    chosen[lanes] = np.arange(len(lanes))
    return chosen


def spaced_map(name: str, like: Feature, channels: int, groups: int) -> Feature:
    """Return a map whose groups of channels begin with surfaces: `like` where they do."""
    if channels % LANES == 0:
        return like
    images, height, width, _ = like.shape
    shape = images, height, width, -(-channels // LANES) * LANES * groups
    return Feature.between(f"{name}/spaced", shape, like.flip)
