# Ref: docs/hardware/rocket_vendor.md §2 (channels that are no multiple of 16)
"""1x1 convolutions that choose channels: each channel of the result is one of the input."""

from __future__ import annotations

import numpy as np

from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_rocket.exact.layers import Layer
from teflon_rocket.exact.scales import Affine
from teflon_rocket.operations.convolution import Coefs, Geometry
from teflon_rocket.operations.data import Feature, whole_pitch

NO_CHANNEL = -1
_ZERO, _ONE = 128, 129
_ALL = (0, 255)


def selection(
    name: str,
    source: Feature,
    output: Feature,
    chosen: Array,
    inside: Affine,
    result: Affine,
    filler: int = 0,
) -> Layer:
    """Return the layer that makes channel i of `output` of channel chosen[i] of `source`.

    chosen: [output channels]; where it is NO_CHANNEL, the result is its zero point plus `filler`
    steps, which needs one scale for both.
    """
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
    pitch = whole_pitch(height, width)
    return Feature(f"{name}/spaced", shape, flip=like.flip, pitch=pitch)
