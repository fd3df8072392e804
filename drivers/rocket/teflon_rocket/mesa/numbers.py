# Ref: docs/hardware/rocket.md §4.4, §4.5, §7.2 to §7.4
# Ref: Mesa 26.2.6, src/gallium/drivers/rocket (behaviour; nothing was copied)
"""Register values as Mesa 26.2.6 computes them, in float32."""

from __future__ import annotations

import numpy as np

from teflon_rocket.mesa.hosts import Host
from teflon_rocket.operations.convolution import Geometry, Numbers
from teflon_rocket.operations.numbers import Converter

TRUNCATED_SCALES = frozenset(
    {
        0x3A88323F, 0x3A9A5956, 0x3C0060DE, 0x3C06022D, 0x3C1642E3, 0x3C1E3F51, 0x3C5C8AA8,
        0x3C615E93, 0x3C7326A2, 0x3C783013, 0x3CAEBC56, 0x3D1748E6, 0x3D282992, 0x3D2E87AE,
        0x3D77F5F6,
    }
)  # fmt: skip
"""Weight scales (float32 bits) for which Mesa drops one bit of the accumulator."""


def truncate_bits(host: Host) -> int:
    """Return how many bits of the accumulator Mesa drops."""
    return int(float_bits(host.op.weights.type.scale) in TRUNCATED_SCALES)


def numbers(host: Host, geometry: Geometry, truncate: int) -> Numbers:
    """Return the numbers of a convolution; the output's are those of the sum where it adds."""
    op, out = host.op, host.result.type
    real = np.float32(op.input.type.scale) * np.float32(op.weights.type.scale)
    bits = float_bits(np.float32(real / np.float32(out.scale)))
    scale = ((bits >> 9) & 0x7FFF) + 1
    shift = 142 - (bits >> 23) - int(truncate > 0)
    return Numbers(
        compensation=128 - (op.weights.type.zero_point & 0xFF),
        pad=_pad(op.input.type.zero_point & 0xFF, geometry),
        output=Converter(
            (out.zero_point & 0xFF) - 128, scale | 0x4000 if scale < 0x4000 else scale, shift - 1
        ),
        truncate=truncate,
        input=Converter(-128, 32388, 15) if host.in_addition else Converter(-128, 16384, 14),
    )


def _pad(zero: int, geometry: Geometry) -> int:
    if geometry.depthwise and zero == 0x8B:
        return 0x0B0B
    if geometry.in_addition:
        return 0xFFFFFF80
    if geometry.kernel[0] >= 3 and zero == 0:
        return 0xFFFF8080
    return (zero - 128) & 0xFFFFFFFF


def operand_converter(host: Host) -> Converter:
    """Return how what is added becomes accumulator units."""
    assert host.operand is not None
    op, other = host.op, host.operand.type
    unit = np.float32(op.input.type.scale) * np.float32(op.weights.type.scale)
    bits = float_bits(np.float32(np.float32(other.scale) / unit))
    scale = (bits >> 9) & 0x7FFF
    return Converter(
        offset=128 - other.zero_point,
        scale=scale | 0x4000 if scale < 0x4000 else scale,
        shift=(141 - (bits >> 23)) & 0x3F,
    )


def float_bits(real: float | np.float32) -> int:
    """Return the bits of a float32."""
    return int(np.float32(real).view(np.uint32))
