# Ref: docs/hardware/rocket_vendor.md §0.5, §1 (C split threshold: no kernel has more than 3072
# Ref: bytes in the vendor's programs)
"""Kernels of more bytes than a pass takes: partial sums of 16 bits, added up by a convolution.

The vendor halves the input channels, keeps the first half's result as int8 and adds it to the
second; that costs up to half of what a step of the partial result is worth, which can be many
steps of the output. Here each part makes two maps. `high` is the partial sum in steps so coarse
that it fits int8 for every input. `low` is what `high` leaves: the same convolution, with `high`
taken off it by the DPU's EW stage. A 1x1 convolution adds 127 * high + low of all parts and gives
the sum its scale. What is lost is half a step of `low` for each part.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from teflon.errors import LimitExceeded
from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon.ir.types import Array
from teflon_common.layout import LANES
from teflon_rocket.exact.channels import MOST, Scaled, Target, scaled
from teflon_rocket.exact.layers import Layer, Weighted
from teflon_rocket.exact.scales import channel_bounds, output_multiplier, pad_word
from teflon_rocket.operations.convolution import Coefs, Geometry, Numbers
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.numbers import Channels, Converter, Operand
from teflon_rocket.operations.stages import Stage

MOST_BYTES = 3072
"""Of one kernel in one pass."""
_STEPS = 127
"""Steps of `low` in one of `high`."""
_BITS = 14
_LARGEST = 2**15 - 1
"""EW multiplies `high` by it at most."""
_ROUNDING = 0.51
"""Of a step of `low`; its converter's factor has 15 bits."""


class Work(NamedTuple):
    """One convolution of several: what it reads and writes, its numbers, its surface of the
    output.
    """

    input: Feature
    output: Feature
    geometry: Geometry
    coefs: Coefs
    numbers: Numbers
    operand: Operand | None = None
    surface: int = 0


class _Part(NamedTuple):
    """Rows of a kernel and surfaces of its input."""

    rows: slice
    atoms: slice


class _Steps(NamedTuple):
    """One step of `low` is `step` times 2^shift units of the accumulator."""

    step: int
    shift: int

    @property
    def units(self) -> int:
        return self.step << self.shift


def parts(g: Geometry) -> list[_Part]:
    """Return parts of a kernel of at most 3072 bytes each; a single one where it is not to be cut.

    Input channels are cut first. Where 16 channels are too many, rows are, which needs a
    convolution without padding; else the kernel stays whole.
    """
    whole = [_Part(slice(0, g.kernel[1]), slice(0, g.atoms))]
    if g.depthwise or g.rows or g.taps * g.channels <= MOST_BYTES:
        return whole
    high, atoms = g.kernel[1], MOST_BYTES // (g.taps * LANES)
    if not atoms:
        high, atoms = MOST_BYTES // (g.kernel[0] * g.padded_channels), g.atoms
        if not high or any(g.pads) or g.deconvolution:
            return whole
    return [_Part(rows, some) for rows in _cut(g.kernel[1], high) for some in _cut(g.atoms, atoms)]


def is_whole(op: Weighted) -> bool:
    """Whether one convolution computes an operation's sums: no groups, no parts of kernels."""
    if isinstance(op, DepthwiseConv2D):
        return True
    grouped = isinstance(op, Conv2D) and op.weights.shape[3] != op.input.shape[3]
    return not grouped and op.weights.type.size <= MOST_BYTES * op.weights.shape[0]


def _cut(count: int, most: int) -> list[slice]:
    """Return slices of at most `most`, of nearly the same size."""
    number = -(-count // most)
    edges = [count * n // number for n in range(number + 1)]
    return [slice(first, last) for first, last in itertools.pairwise(edges)]


def in_parts(layer: Layer, found: list[_Part]) -> Iterator[Work]:
    """Yield the convolutions of a layer whose kernel is cut.

    Raises LimitExceeded where the results could be too far from the model's.
    """
    g = layer.geometry
    every = [_coefs(layer, part) for part in found]
    every[0] = dataclasses.replace(every[0], bias=layer.coefs.bias)
    edges = [channel_bounds(coefs) for coefs in every]
    steps = _steps(max(int((high - low).max()) for low, high in edges))
    middles = [(low + high) // 2 // steps.units for low, high in edges]
    maps = _maps(layer, len(found))
    for number, (part, coefs) in enumerate(zip(found, every, strict=True)):
        coefs = dataclasses.replace(coefs, bias=coefs.bias - middles[number] * steps.units)
        source, geometry = _source(layer, part)
        high, low = maps.part(2 * number, g.out_channels), maps.part(2 * number + 1, g.out_channels)
        coarse, fine = _numbers(layer, coefs, steps)
        operand = Operand(high, Converter(0, -_STEPS * steps.step, 0))
        yield Work(source, high, geometry, coefs, coarse)
        yield Work(source, low, geometry, coefs, fine, operand)
    yield from _sum(layer, maps, np.sum(middles, axis=0), steps, len(found))


def _coefs(layer: Layer, part: _Part) -> Coefs:
    """Return the weights of a part, without biases."""
    g, coefs = layer.geometry, layer.coefs
    rows = coefs.weights.reshape(-1, g.kernel[1], g.kernel[0], g.channels)[:, part.rows]
    weights = rows[..., part.atoms.start * LANES : part.atoms.stop * LANES]
    flat = weights.reshape(g.out_channels, -1, weights.shape[3])
    return dataclasses.replace(coefs, weights=flat, bias=np.zeros(g.out_channels, np.int64))


def _steps(width: int) -> _Steps:
    """Return steps that hold partial sums of so many values; `low` may leave half a step over."""
    shift = 0
    while (step := -(-width // (2 * _STEPS * _STEPS << shift)) + 1) * _STEPS > _LARGEST:
        shift += 1
    return _Steps(step, shift)


class _Maps(NamedTuple):
    """A feature map of `high` and `low` of all parts, one behind the other."""

    whole: Feature
    surfaces: int  # of each

    def part(self, number: int, channels: int) -> Feature:
        shape = (*self.whole.shape[:3], channels)
        start = number * self.surfaces * self.whole.surface_bytes
        return self.whole.part(f"{self.whole.name}/{number}", shape, start)

    def across(self, surface: int, count: int) -> Feature:
        """Return one surface of each of `count` parts as a feature map."""
        shape = (*self.whole.shape[:3], count * LANES)
        start = surface * self.whole.surface_bytes
        found = self.whole.part(f"{self.whole.name}/all {surface}", shape, start)
        return dataclasses.replace(found, pitch=self.surfaces * self.whole.surface_pixels)


def _maps(layer: Layer, count: int) -> _Maps:
    """Return room for two maps of each of `count` parts; the DPU writes two surfaces at a time."""
    g = layer.geometry
    surfaces = g.padded_out_channels // LANES
    shape = (g.images, g.out_height, g.out_width, 2 * count * surfaces * LANES)
    return _Maps(Feature(f"{layer.name}/parts", shape), surfaces)


def _source(layer: Layer, part: _Part) -> tuple[Feature, Geometry]:
    """Return the part of the input that a part of the kernel reads, and its sizes."""
    g, source = layer.geometry, layer.input
    channels = min(part.atoms.stop * LANES, g.channels) - part.atoms.start * LANES
    rows = part.rows.stop - part.rows.start
    top = part.rows.start * g.dilation[1]
    height = g.height - (g.kernel[1] - rows) * g.dilation[1]
    start = part.atoms.start * source.surface_bytes + top * g.width * LANES
    shape = (g.images, height, g.width, channels)
    name = f"{layer.name}/rows {part.rows.start}, surface {part.atoms.start}"
    geometry = dataclasses.replace(
        g, height=height, channels=channels, kernel=(g.kernel[0], rows), in_addition=True
    )
    return source.part(name, shape, start), geometry


def _numbers(layer: Layer, coefs: Coefs, steps: _Steps) -> tuple[Numbers, Numbers]:
    """Return the numbers of `high` and `low`: all channels alike, in units of the accumulator."""
    count = layer.geometry.out_channels
    compensation = np.broadcast_to(128 - np.asarray(coefs.weight_zero), (count,))
    channels = Channels(compensation, np.full(count, 1 << _BITS), Stage(shift=_BITS + steps.shift))
    pad = pad_word(coefs.input_zero)
    coarse, fine = (
        output_multiplier(1 / step, layer.name) for step in (_STEPS * steps.step, steps.step)
    )
    return (
        Numbers(0, pad, Converter(0, coarse.multiplier, coarse.shift), channels=channels),
        Numbers(0, pad, Converter(0, fine.multiplier, fine.shift), channels=channels),
    )


def _sum(layer: Layer, maps: _Maps, middle: Array, steps: _Steps, count: int) -> Iterator[Work]:
    """Yield the convolutions that add up the parts, one for each surface of the output."""
    g = layer.geometry
    weights = np.full((g.out_channels, 1, 2 * count, LANES), 128, np.uint8)
    each = np.arange(g.out_channels)
    weights[each, 0, ::2, each % LANES] = 128 + _STEPS
    weights[each, 0, 1::2, each % LANES] = 128 + 1
    coefs = Coefs(weights.reshape(g.out_channels, 1, -1), 128, middle, 128, False)
    found = _scaled(layer, coefs, steps, count)
    numbers = Numbers(0, pad_word(128, used=False), found.output, channels=found.channels)
    for surface in range(-(-g.out_channels // LANES)):
        some = slice(surface * LANES, min((surface + 1) * LANES, g.out_channels))
        geometry = Geometry(
            g.out_width, g.out_height, 2 * count * LANES, g.out_width, g.out_height,
            some.stop - some.start, images=g.images,
        )  # fmt: skip
        source = maps.across(surface, 2 * count)
        yield Work(
            source, layer.output, geometry, found.coefs.part(some), numbers.part(some),
            surface=surface,
        )  # fmt: skip


def _scaled(layer: Layer, coefs: Coefs, steps: _Steps, count: int) -> Scaled:
    """Return the numbers of the sum. Raises LimitExceeded where what is lost is too much."""
    units = np.full(layer.geometry.out_channels, layer.unit)
    units = units if layer.units is None else layer.units
    target = Target(layer.result.scale, layer.result.zero, layer.clamp or (0, 255))
    found = scaled(coefs, units * float(steps.units), target, layer.name)
    lost = count * (_ROUNDING * steps.units + (1 << steps.shift)) * units / layer.result.scale
    error = float((found.error + lost).max())
    if error > MOST:
        raise LimitExceeded(
            f"kernel of {layer.geometry.kernel_bytes} bytes is cut into {count} parts, whose sum"
            f" may be {error:.2f} steps off before rounding, must be {MOST} at most",
            where=layer.name,
        )
    return found
