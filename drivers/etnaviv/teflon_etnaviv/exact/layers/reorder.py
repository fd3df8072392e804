"""The layer that brings planes into another order: a 1x1 convolution of ones and zeros."""

from __future__ import annotations

import numpy as np

from teflon_etnaviv.exact.grouping.kernels import Order
from teflon_etnaviv.nn.layer import Layer, Weights
from teflon_etnaviv.tensors import Tensor


def reorder(source: Tensor, planes: Order, title: str) -> Layer:
    """Return the layer that puts plane `planes[k]` of a tensor into plane k: exact for all bytes.

    The tensor has at least two planes.
    """
    height, width, channels = source.sizes
    weights = np.zeros((channels, channels), np.uint8)
    weights[np.arange(channels), planes] = 1
    return Layer(
        height=height,
        width=width,
        in_channels=channels,
        planes=channels,
        out_height=height,
        out_width=width,
        out_channels=channels,
        kernel_height=1,
        kernel_width=1,
        in_zero=source.zero_point,
        out_zero=source.zero_point,
        scale=np.float32(1),
        weights=Weights(weights.reshape(-1), 0, 0),
        bias=np.zeros(channels, np.int32),
        pointwise=True,
        title=title,
    )
