# Ref: docs/hardware/rocket_vendor.md §1 (activations without table), §2 (elementwise: Relu, Clip,
# Ref: Abs; copies with requantisation)
"""One tensor, element by element: another scale, limits, another slope below zero."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.ir.graph import Op
from teflon.ir.ops import Abs, LeakyRelu, Prelu, Quantize, Relu, Relu0To1, Relu6, ReluN1To1
from teflon.ir.quantized import quantize_bound
from teflon.ir.types import Array
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact import bends
from teflon_rocket.exact.copies import is_at
from teflon_rocket.exact.rescale import ALL, Rescaling, rescaled, rescaling, sloped
from teflon_rocket.exact.scales import Affine, signed_offset
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation

RULES = Family()

Clamp = Relu | Relu6 | Relu0To1 | ReluN1To1
Sloped = LeakyRelu | Abs | Prelu


@RULES.requires
def slopes_for_channels(op: Prelu, chip: Chip) -> str | None:
    """Slopes must be constant, one or one for each channel."""
    alpha = op.alpha
    if alpha.is_constant and image_shape(alpha.shape)[:3] == (1, 1, 1):
        return None
    return (
        f"{alpha.name!r} is {'constant' if alpha.is_constant else 'computed'} {list(alpha.shape)}"
    )


@RULES.lowers
def requantised(op: Quantize, state: Lowering) -> Iterator[Operation]:
    """One pass of the DPU; none where the result has the input's bytes and its place."""
    source, target = state.features[op.input], state.features[op.output]
    if not is_at(target, source):
        yield from _passes(op, state, rescaling(op.where, *_affines(op)))


@RULES.lowers
def clamped(op: Clamp, state: Lowering) -> Iterator[Operation]:
    """One pass of the DPU."""
    yield from _passes(op, state, rescaling(op.where, *_affines(op), _limits(op)))


@RULES.lowers
def bent(op: Sloped, state: Lowering) -> Iterator[Operation]:
    """One pass of the DPU: BN multiplies the values below zero; none where the convolution before
    it does that.
    """
    if isinstance(op, LeakyRelu | Prelu) and op in state.bends:
        yield from bends.bent(op, state.bends[op], state)
        return
    channels = state.features[op.output].shape[3]
    numbers = sloped(op.where, *_affines(op), _slopes(op), channels)
    yield from _passes(op, state, numbers)


def _affines(op: Op) -> tuple[Affine, Affine]:
    return Affine.of(op.inputs_present[0].type), Affine.of(op.results[0].type)


def _passes(op: Op, state: Lowering, numbers: Rescaling) -> Iterator[Operation]:
    source, target = state.features[op.inputs_present[0]], state.features[op.results[0]]
    return rescaled(op.where, source, target, numbers, state.chip)


def _limits(op: Clamp) -> tuple[int, int]:
    """Return the limits of the output in uint8's domain."""
    tensor = op.output.type
    offset = signed_offset(tensor)
    low = quantize_bound(op.low, tensor) + offset
    high = ALL[1] if op.high is None else quantize_bound(op.high, tensor) + offset
    return max(low, ALL[0]), min(high, ALL[1])


def _slopes(op: Sloped) -> Array:
    """Return the slopes below zero: one, or one for each channel."""
    if isinstance(op, Abs):
        return np.array([-1.0])
    return bends.slopes(op)
