"""A sum of two tensors whose planes lie in different orders: each of the result's planes takes the
operands' planes of its channel, wherever they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.grouping.kernels import Order
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.tensors import Tensor

CHANNELS_MOST = 256
"""Weights grow with the square of the channels: beyond, planes are better brought into order."""


def fits(tensor: Tensor, chip: Chip) -> bool:
    """Whether the cores can add tensors of this size plane by plane."""
    high, wide, channels = tensor.sizes
    countable = max(high, wide) <= chip.nn_image_max and 2 * channels <= chip.nn_planes_max
    return countable and 1 < channels <= CHANNELS_MOST


def by_channels(layer: Layer, tensor: Tensor, a: Order | None, b: Order | None) -> Layer:
    """Return the layer of a sum, cut into the planes of its channels.

    layer: the sum of bytes, wherever they are cut; a, b: the channel that lies in each plane of an
    operand.
    """
    high, wide, channels = tensor.sizes
    of_a, of_b = layer.weights.data[0], layer.weights.data[layer.out_channels]
    weights = np.full((channels, 2 * channels), layer.weights.fill, np.uint8)
    numbers = np.arange(channels)
    weights[numbers if a is None else a, numbers] = of_a
    weights[numbers if b is None else b, channels + numbers] = of_b
    return replace(
        layer,
        height=high,
        width=wide,
        in_channels=2 * channels,
        planes=2 * channels,
        out_height=high,
        out_width=wide,
        out_channels=channels,
        weights=replace(layer.weights, data=weights.reshape(-1)),
        bias=np.full(channels, layer.bias[0], np.int32),
    )
