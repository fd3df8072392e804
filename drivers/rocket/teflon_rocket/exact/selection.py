# Ref: docs/hardware/rocket_vendor.md §2 (channels that are no multiple of 16)
"""1x1 convolutions that choose channels: each channel of the result is one of the input."""

from __future__ import annotations

import numpy as np

from teflon.ir.types import Array
from teflon_rocket.exact.layers import Layer
from teflon_rocket.exact.scales import Affine
from teflon_rocket.operations.convolution import Coefs, Geometry
from teflon_rocket.operations.data import Feature

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
