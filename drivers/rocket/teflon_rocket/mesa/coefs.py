# Ref: docs/hardware/rocket.md §4.3 (weights), §4.4 (biases), §4.5 (truncate bits)
"""Weights and biases as Mesa 26.2.6 packs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from teflon.ir.types import Array
from teflon_rocket.operations.convolution import Coefs
from teflon_rocket.operations.convolution.coefs import (
    KERNEL_GROUP,
    group_channels,
    pack_weights,
)


@dataclass(frozen=True, eq=False)
class MesaCoefs(Coefs):
    """Zero points are the model's, whatever the type: Mesa takes int8 for uint8.

    truncate: how many bits of the sums the CORE drops.
    """

    truncate: int = 0

    def packed_weights(self) -> Array:
        assert isinstance(self.weight_zero, int)  # Mesa has one scale
        return pack_weights_mesa(self.weights, self.weight_zero, self.depthwise)

    def packed_biases(self, origin: int) -> Array:
        biases = super().packed_biases(origin)
        if not self.truncate:
            return biases
        halves: Array = np.trunc(biases.astype(np.float64) / 2**self.truncate).astype(np.int32)
        return halves  # truncated toward zero, as C divides


def weights_size(kernels: int, taps: int, channels: int) -> int:
    """Return the bytes that Mesa asks for: about twice what is filled."""
    return taps * kernels * -(-max(channels, 16) // 32) * 32 * 2


def pack_weights_mesa(weights: Array, zero_point: int, depthwise: bool) -> Array:
    """Return the weight bytes as Mesa 26.2.6 packs them.

    Equal to `pack_weights` for direct convolutions with an even number of kernels. Otherwise rows
    of the zero kernel and of some depthwise channel counts have another length (§4.3).
    """
    kernels, taps, channels = weights.shape
    if not depthwise and kernels % 2 == 0:
        return pack_weights(weights, zero_point, depthwise)
    group = group_channels(depthwise)
    row = min(-(-max(channels, 16) // 16) * 16, group)
    signed = np.bitwise_xor(weights, np.uint8(0x80))
    fill = (zero_point & 0xFF) ^ 0x80
    parts = []
    for first in range(0, kernels, KERNEL_GROUP):
        some = signed[first : first + KERNEL_GROUP]
        last = first + KERNEL_GROUP > kernels and kernels % 2 and not depthwise
        for start in range(0, max(channels, 16), group):
            real = some[:, :, start : start + group].transpose(1, 0, 2)
            lanes = np.arange(real.shape[2], row)
            surplus = int(np.count_nonzero((lanes < 16) | (channels % 32 > 16)))
            rows = np.pad(real, ((0, 0), (0, 0), (0, surplus)), constant_values=fill)
            flat = rows.reshape(taps, -1)
            parts.append(np.pad(flat, ((0, 0), (0, row if last else 0))).ravel())
    return np.concatenate(parts)
