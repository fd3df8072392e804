# Ref: docs/hardware/rocket.md §5.3 (additions), §6.2, §10
"""From a layer to convolutions on the device: register values, and tasks that fit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from teflon.errors import LimitExceeded
from teflon_common.layout import LANES
from teflon_common.quantize import Multiplier
from teflon_rocket.chips import Chip
from teflon_rocket.exact.channels import Target, scaled
from teflon_rocket.exact.layers import Addition, Layer
from teflon_rocket.exact.partial import Work, in_parts, parts
from teflon_rocket.exact.scales import (
    Window,
    bounds,
    early_clamps,
    operand_multiplier,
    output_multiplier,
    output_window,
    pad_word,
    threshold_high,
)
from teflon_rocket.exact.split import split
from teflon_rocket.operations.convolution import Coefs, Convolution, Geometry, Numbers, Split
from teflon_rocket.operations.numbers import NO_CLAMPS, Clamps, Converter, Operand

_SHIFTED_UNIT = 0.25
"""Largest accumulator unit in steps of a sum whose lower limit is not its zero point: the limit is
rounded to accumulator units."""
_INT32 = 2**31
_GROUP = 16  # kernels of one operation where not even a group of 32 fits


class DoesNotFit(LimitExceeded):
    """No way to cut a convolution into tasks brings it into the convolution buffer."""


def convolutions(layer: Layer, chip: Chip, feeds_addition: bool) -> Iterator[Convolution]:
    """Yield the convolution of a layer; several where the weights fill more than the buffer.

    feeds_addition: the result is what another layer adds. Raises LimitExceeded where the numbers
    cannot be expressed, DoesNotFit where no tasks fit.
    """
    cut = parts(layer.geometry)
    if len(cut) > 1 and layer.addition is None:
        every = list(in_parts(layer, cut))
    else:
        coefs, numbers = _coefs_and_numbers(layer)
        in_addition = feeds_addition or layer.addition is not None
        geometry = dataclasses.replace(layer.geometry, in_addition=in_addition)
        every = [Work(layer.input, layer.output, geometry, coefs, numbers, _operand(layer))]
    cost = sum(work.geometry.weight_bytes * work.geometry.out_pixels for work in every)
    for work in every:
        share = work.geometry.weight_bytes * work.geometry.out_pixels
        yield from _fitting(work, layer.name, layer.macs * share // max(cost, 1), chip)


def _fitting(work: Work, name: str, macs: int, chip: Chip) -> Iterator[Convolution]:
    """Yield one convolution, or several of some channels each where all do not fit the buffer."""
    geometry = work.geometry
    group = chip.depthwise_channels if geometry.depthwise else _GROUP
    found = split(geometry, chip)
    if found is not None or geometry.out_channels <= group:
        yield Convolution(
            name, work.input, work.output, geometry, _found(found, name, geometry, chip),
            work.coefs, work.numbers, work.operand, work.surface, macs=macs,
        )  # fmt: skip
        return
    for first in range(0, geometry.out_channels, group):
        some = slice(first, min(first + group, geometry.out_channels))
        part = _some(work, name, some)
        found = _found(split(part.geometry, chip), name, part.geometry, chip)
        share = macs * part.geometry.out_channels // geometry.out_channels
        yield Convolution(
            name, part.input, part.output, part.geometry, found, part.coefs, part.numbers,
            part.operand, part.surface, macs=share,
        )  # fmt: skip


def _some(work: Work, name: str, some: slice) -> Work:
    """Return what makes some of the channels, which begin with a surface."""
    count, first, source = some.stop - some.start, some.start // LANES, work.input
    geometry = dataclasses.replace(work.geometry, out_channels=count)
    if geometry.depthwise:
        geometry = dataclasses.replace(geometry, channels=count)
        shape = (*source.shape[:3], count)
        source = source.part(f"{name}/channels {some.start}", shape, first * source.surface_bytes)
    return work._replace(
        input=source,
        geometry=geometry,
        coefs=work.coefs.part(some),
        numbers=work.numbers.part(some),
        surface=work.surface + first,
    )


def _found(found: Split | None, name: str, geometry: Geometry, chip: Chip) -> Split:
    if found is None:
        raise DoesNotFit(
            f"{geometry.kernel[1]} rows of {geometry.channels} channels, or the weights of"
            f" {_GROUP} kernels, do not fit the convolution buffer of {chip.cbuf_bytes} bytes",
            where=name,
        )
    return found


def _coefs_and_numbers(layer: Layer) -> tuple[Coefs, Numbers]:
    """Return weights and numbers: one scale for all channels where that suffices."""
    if layer.units is not None or layer.slopes is not None:
        return _by_channel(layer)
    try:
        return layer.coefs, _numbers(layer)
    except LimitExceeded:
        if layer.addition is None and (finer := _tried(layer)) is not None:
            return finer
        raise


def _tried(layer: Layer) -> tuple[Coefs, Numbers] | None:
    """Return numbers that keep bits below the accumulator's; None where they do not suffice."""
    try:
        return _by_channel(layer)
    except LimitExceeded:
        return None


def _by_channel(layer: Layer) -> tuple[Coefs, Numbers]:
    assert layer.addition is None  # `sums` leaves such additions to others
    units = np.full(layer.geometry.out_channels, layer.unit)
    units = units if layer.units is None else layer.units
    target = Target(layer.result.scale, layer.result.zero, layer.clamp or (0, 255))
    found = scaled(layer.coefs, units, target, layer.name, layer.slopes)
    numbers = Numbers(0, _pad(layer), found.output, channels=found.channels)
    return found.coefs, numbers


def _numbers(layer: Layer) -> Numbers:
    assert isinstance(layer.coefs.weight_zero, int)  # one scale, one zero point
    written = layer.result if layer.addition is None else layer.addition.sum
    factor = output_multiplier(layer.unit / written.scale, layer.name)
    if layer.addition is None:
        clamps, zero = _own_clamps(layer, factor), written.zero
    else:
        clamps, zero = _sum_clamps(layer, layer.addition, factor)
    _check_32_bits(layer, clamps)
    return Numbers(
        compensation=128 - layer.coefs.weight_zero,
        pad=_pad(layer),
        output=Converter(zero - 128, factor.multiplier, factor.shift),
        clamps=clamps,
    )


def _check_32_bits(layer: Layer, clamps: Clamps) -> None:
    """Raise LimitExceeded where a value between the stages could need more than 32 bits."""
    coefs, addition = layer.coefs, layer.addition
    terms = coefs.weights[0].size // (coefs.weights.shape[2] if coefs.depthwise else 1)
    others = abs(clamps.origin) + abs(clamps.shift) + 1
    if addition is not None:
        others += math.ceil(256 * addition.operand_affine.scale / layer.unit)
    largest = int(np.abs(coefs.bias).max())
    if largest + 2 * 128 * 255 * terms + others < _INT32:  # whatever the weights are
        return
    axes = (0, 1) if coefs.depthwise else (1, 2)
    sums = 128 * int(np.abs(coefs.distances).sum(axis=axes, dtype=np.int64).max())
    reached = sums + int(np.abs(coefs.bias - coefs.correction()).max()) + others
    if reached >= _INT32:
        raise LimitExceeded(f"accumulator reaches {reached}, must fit 32 bits", where=layer.name)


def _pad(layer: Layer) -> int:
    geometry, zero = layer.geometry, layer.coefs.input_zero
    large = geometry.kernel[1] >= 3 and zero == 0  # Mesa writes it twice then
    return pad_word(zero, any(geometry.pads) or large or geometry.deconvolution)


def _own_clamps(layer: Layer, factor: Multiplier) -> Clamps:
    """Return the limits of a convolution's own result."""
    if layer.clamp is None or layer.clamp == (0, 255):
        return NO_CLAMPS
    window = output_window(factor, layer.result.zero, layer.clamp, layer.name)
    return early_clamps(window, bounds(layer.coefs), layer.name)


def _sum_clamps(layer: Layer, addition: Addition, factor: Multiplier) -> tuple[Clamps, int]:
    """Return the limits before and after an addition, and what accumulator 0 becomes.

    Before it the result is held within the range that it would have without the addition.
    """
    early, total = NO_CLAMPS, addition.sum
    if layer.clamp is not None:
        steps = layer.result.scale / layer.unit
        edges = [round((q - layer.result.zero) * steps) for q in layer.clamp]
        early = early_clamps(Window(*edges), bounds(layer.coefs), layer.name)
    low, high = addition.clamp
    if (low, high) == (0, 255):
        return early, total.zero
    if low != total.zero and factor.real > _SHIFTED_UNIT:
        raise LimitExceeded(
            f"accumulator unit is {factor.real:g} steps of the sum, must be at most"
            f" {_SHIFTED_UNIT} for a clamp other than at the zero point",
            where=layer.name,
        )
    origin = 0 if low == total.zero else round((low - total.zero) / factor.real)
    ceiling = None if high >= 255 else threshold_high(factor, high - low)
    late = early._replace(shift=early.shift - origin, late_relu=True, late_ceiling=ceiling)
    return late, low


def _operand(layer: Layer) -> Operand | None:
    addition = layer.addition
    if addition is None:
        return None
    affine = addition.operand_affine
    factor = operand_multiplier(affine.scale / layer.unit)
    if factor is None:
        raise LimitExceeded(
            f"operand scale is {affine.scale:g}, its ratio to the accumulator's {layer.unit:g} must"
            " be between 2^-48 and 2^15",
            where=layer.name,
        )
    converter = Converter(128 - affine.zero, factor.multiplier, factor.shift)
    return Operand(addition.operand, converter)
