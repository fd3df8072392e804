# Ref: docs/hardware/rocket.md §4.3 (weights), §4.4 (biases)
# Ref: docs/hardware/rocket_vendor.md §0.1 (operand stream), §0.4 (depthwise rows)
"""Weights and biases, packed the way the CNA and the DPU read them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import numpy as np

from teflon.ir.types import Array
from teflon_common.layout import LANES

_STREAMED = np.dtype([("bias", "<i4", 8), ("compensation", "<i2", 8), ("multiplier", "<u2", 8)])
"""Eight channels of BS's operand stream."""

KERNEL_GROUP = 32
"""Kernels whose weights lie together."""


def group_channels(depthwise: bool) -> int:
    """Channels of one weight row."""
    return 64 if depthwise else 32


@dataclass(frozen=True, eq=False)
class Coefs:
    """Weights and biases of a convolution as the model has them; packing them takes time.

    weights: uint8 [kernels, taps, channels] (depthwise: one kernel) with the zero point
    `weight_zero`, one for all or int64 [output channels]. bias: int64 [output channels], in
    accumulator units of the channel. The zero points are in uint8's domain: an int8 value v is the
    uint8 value v + 128.
    """

    weights: Array
    weight_zero: int | Array
    bias: Array
    input_zero: int
    depthwise: bool

    def packed_weights(self) -> Array:
        """Return the bytes that the CNA loads."""
        return pack_weights(self.weights, self.weight_zero, self.depthwise)

    def packed_biases(self, origin: int) -> Array:
        """Return the int32 numbers that BS adds to the sums of the CORE; `origin` is taken off."""
        return wrap32(self.bias - self.correction() - origin)

    def correction(self) -> Array:
        """Return what the input's zero point adds to each sum."""
        return zero_point_correction(
            self.weights, self.weight_zero, self.input_zero, self.depthwise
        )

    def part(self, some: slice) -> Self:
        """Return what makes some of the output channels."""
        zero = self.weight_zero if isinstance(self.weight_zero, int) else self.weight_zero[some]
        weights = self.weights[:, :, some] if self.depthwise else self.weights[some]
        return dataclasses.replace(self, weights=weights, weight_zero=zero, bias=self.bias[some])

    @property
    def distances(self) -> Array:
        """Weights less their zero point, int16 in the shape of the weights."""
        zero = np.asarray(self.weight_zero, np.int16)
        if zero.ndim and not self.depthwise:
            zero = zero[:, None, None]
        return self.weights.astype(np.int16) - zero


def row_bytes(channels: int, depthwise: bool) -> int:
    """Return the bytes of one tap of one kernel: channels in whole atoms; a depthwise row of more
    than 32 has all 64.
    """
    wide = -(-max(channels, 1) // LANES) * LANES
    return wide + (LANES if depthwise and wide % 64 == 48 else 0)


def pack_weights(weights: Array, zero_point: int | Array, depthwise: bool) -> Array:
    """Return the weight bytes as the hardware expects them.

    weights: uint8 [kernels, taps, channels] (depthwise: one kernel). zero_point: one, or one for
    each output channel. Order: group of 32 kernels, group of 32 channels (depthwise 64), tap,
    kernel, channel. Rows of the last channel group are padded with the zero point to 16 or 32
    bytes (depthwise to 16, 32 or 64); an odd last kernel is followed by one of zeros.
    """
    group = group_channels(depthwise)
    kernels = 1 if depthwise else weights.shape[0] + weights.shape[0] % 2
    padded = _padded(weights, zero_point, kernels, row_bytes(weights.shape[2], depthwise))
    full = kernels // KERNEL_GROUP
    parts = []
    if full:
        blocks = padded[: full * KERNEL_GROUP].reshape(full, KERNEL_GROUP, *padded.shape[1:])
        parts.append(_grouped(blocks, group).ravel())
    if kernels % KERNEL_GROUP:
        parts.append(_grouped(padded[None, full * KERNEL_GROUP :], group).ravel())
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _padded(weights: Array, zero_point: int | Array, kernels: int, wide: int) -> Array:
    """Return w - 128 with channels padded to `wide` and kernels to an even number."""
    real, taps, channels = weights.shape
    if (real, channels) == (kernels, wide):
        return np.bitwise_xor(weights, np.uint8(0x80), order="C")
    padded = np.zeros((kernels, taps, wide), np.uint8)
    np.bitwise_xor(weights, np.uint8(0x80), out=padded[:real, :, :channels])
    fill = np.bitwise_xor(np.asarray(zero_point).reshape(-1)[:real] & 0xFF, 0x80)
    padded[:real, :, channels:] = fill[:, None, None]
    return padded


def _grouped(blocks: Array, group: int) -> Array:
    """Return [kernel groups, bytes] of [kernel groups, kernels, taps, channels]."""
    count, kernels, taps, channels = blocks.shape
    whole = channels // group * group
    out = np.empty((count, kernels * taps * channels), np.uint8)
    split = kernels * taps * whole
    if whole:
        rows = blocks[..., :whole].reshape(count, kernels, taps, whole // group, group)
        place = out[:, :split].reshape(count, whole // group, taps, kernels, group)
        place.view(np.uint64)[...] = rows.view(np.uint64).transpose(0, 3, 2, 1, 4)
    if whole < channels:
        place = out[:, split:].reshape(count, taps, kernels, channels - whole)
        place[...] = blocks[..., whole:].transpose(0, 2, 1, 3)
    return out


def zero_point_correction(
    weights: Array, weight_zero: int | Array, input_zero: int, depthwise: bool
) -> Array:
    """Return sum((w - z_w) * (z_in - 128)) of each output channel, int64.

    weights: uint8 [kernels, taps, channels]; zero points in uint8's domain.
    """
    distance = input_zero - 128
    if distance == 0:
        return np.zeros(weights.shape[2] if depthwise else weights.shape[0], np.int64)
    if depthwise:
        sums, count = weights[0].sum(axis=0, dtype=np.int64), weights.shape[1]
    else:
        flat = weights.reshape(weights.shape[0], -1)
        sums, count = flat.sum(axis=1, dtype=np.uint32).astype(np.int64), flat.shape[1]
    corrections: Array = (sums - count * weight_zero) * distance
    return corrections


def pack_stream(bias: Array, compensation: Array, multiplier: Array, channels: int) -> Array:
    """Return BS's operand stream as bytes: for each 8 channels biases, OW and multipliers.

    The arrays are [output channels]; `channels` is what the DPU works on, the rest are zeros.
    """
    groups = np.zeros(-(-channels // 8), _STREAMED)
    for name, values in (
        ("bias", bias), ("compensation", compensation), ("multiplier", multiplier)
    ):  # fmt: skip
        lanes = np.zeros(groups[name].size, groups[name].dtype)
        lanes[: len(values)] = values
        groups[name] = lanes.reshape(-1, 8)
    return groups.view(np.uint8)


def wrap32(values: Array) -> Array:
    """Return int64 values modulo 2^32, as int32."""
    return values.astype(np.int64).astype(np.uint64).astype(np.uint32).view(np.int32)
