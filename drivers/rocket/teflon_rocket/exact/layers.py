# Ref: docs/hardware/rocket_vendor.md finding 9 (dilation, deconvolution)
# Ref: docs/hardware/rocket.md §10 (what Mesa gets wrong, and what is right)
"""Operations of the IR as convolutions, which is what the chip can do, in the model's numbers."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from teflon.ir.graph import Op
from teflon.ir.ops import (
    Add,
    AveragePool2D,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MaxPool2D,
    Mul,
    Sub,
    TransposeConv,
)
from teflon.ir.quantized import activation_range
from teflon.ir.types import Array, TensorType
from teflon_common.layout import LANES
from teflon_rocket.exact.scales import Affine, signed_offset
from teflon_rocket.operations.convolution import Coefs, Geometry
from teflon_rocket.operations.data import Feature

Weighted = Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv
Range = tuple[int, int]

_ALL = (0, 255)


class Addition(NamedTuple):
    """What is added to a layer's result, and how the sum is quantised and limited."""

    operand: Feature
    operand_affine: Affine
    sum: Affine
    clamp: Range


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution before it has register values; numbers are in uint8's domain.

    unit: what one step of the accumulator is worth; units: the same for each output channel where
    they differ, float64 (`unit` is the largest then). slopes: what results below 0 are multiplied
    by, one or one for each output channel. result: how the convolution's own output is
    quantised. clamp: its range, None where it cannot leave it. With an `addition`, `output` is the
    sum's.
    """

    name: str
    input: Feature
    output: Feature
    geometry: Geometry
    coefs: Coefs
    unit: float
    result: Affine
    clamp: Range | None
    addition: Addition | None = None
    macs: int = 0
    units: Array | None = None
    slopes: Array | None = None


def clamp_of(op: Weighted | Add | Sub | Mul | AveragePool2D | MaxPool2D) -> Range:
    """Return the range of an operation's output, in uint8's domain."""
    tensor = op.output.type
    low, high = op.clamp if op.clamp is not None else activation_range(op.activation, tensor)
    offset = signed_offset(tensor)
    return max(low + offset, 0), min(high + offset, 255)


def layers(op: Op, source: Feature, output: Feature) -> list[Layer]:
    """Return the convolutions that compute an operation; an intermediate map lies between them."""
    if isinstance(op, Conv2D):
        return _direct(op, source, output)
    if isinstance(op, DepthwiseConv2D):
        return _depthwise(op, source, output)
    if isinstance(op, TransposeConv):
        return [_transposed(op, source, output)]
    assert isinstance(op, FullyConnected)  # nothing else is lowered to convolutions
    return [_matrix(op, source, output)]


def repeated(name: str, source: Feature, output: Feature, tensor: TensorType) -> Layer:
    """Return the 1x1 convolution that writes every channel several times in a row, unchanged:
    as often as `output` has more channels.
    """
    channels, copies, affine = source.shape[3], output.shape[3], Affine.of(tensor)
    weights = np.full((copies, 1, channels), 128, np.uint8)
    each = np.arange(copies)
    weights[each, 0, each * channels // copies] = 129
    coefs = Coefs(weights, 128, np.zeros(copies, np.int64), affine.zero, False)
    geometry = _geometry(source.shape, output.shape, source)
    return Layer(name, source, output, geometry, coefs, affine.scale, affine, _ALL)


# From operations of the IR -----------------------------------------------------------------------


def _geometry(
    inside: tuple[int, int, int, int],
    outside: tuple[int, int, int, int],
    source: Feature,
    depthwise: bool = False,
) -> Geometry:
    """Return a 1x1 kernel's sizes, for maps of (images, height, width, channels)."""
    images, height, width, channels = inside
    _, out_height, out_width, out_channels = outside
    return Geometry(
        width, height, channels, out_width, out_height, out_channels,
        depthwise=depthwise, images=images, rows=source.layout == "rows",
    )  # fmt: skip


def _windowed(base: Geometry, op: Conv2D | DepthwiseConv2D) -> Geometry:
    """Return the sizes with an operation's kernel, stride, dilation and padding."""
    padding = op.padding
    return dataclasses.replace(
        base,
        kernel=(op.weights.shape[2], op.weights.shape[1]),
        stride=(op.stride[1], op.stride[0]),
        dilation=(op.dilation[1], op.dilation[0]),
        pads=(padding.left, padding.right, padding.top, padding.bottom),
    )


def _layer(
    op: Weighted,
    source: Feature,
    output: Feature,
    geometry: Geometry,
    weights: Array,
    some: slice = slice(None),
) -> Layer:
    """Return the layer that makes some of the channels of an operation's result; weights: uint8
    [kernels, taps, channels], of these.
    """
    inside, bias = Affine.of(op.input.type), _bias(op, op.output.shape[-1])[some]
    units = _units(op, inside.scale)
    units = None if units is None else units[some]
    share = geometry.out_channels / op.output.shape[-1]
    return Layer(
        name=op.where,
        input=source,
        output=output,
        geometry=geometry,
        coefs=Coefs(weights, _zeros(op, some), bias, inside.zero, geometry.depthwise),
        unit=inside.scale * op.weights.type.scale if units is None else float(units.max()),
        result=Affine.of(op.output.type),
        clamp=clamp_of(op),
        macs=round(op.macs * share),
        units=units,
    )


def _zeros(op: Weighted, some: slice = slice(None)) -> int | Array:
    """Return the zero point of the weights in uint8's domain, or one for each of some output
    channels.
    """
    quantization, offset = op.weights.type.quantization, signed_offset(op.weights.type)
    assert quantization is not None  # a rule
    if len(set(quantization.zero_points)) == 1:
        return quantization.zero_point + offset
    return np.array(quantization.zero_points, np.int64)[some] + offset


def _units(op: Weighted, scale: float) -> Array | None:
    """Return what one step of each output channel's accumulator is worth; None where all scales and
    zero points are the same.
    """
    quantization = op.weights.type.quantization
    assert quantization is not None  # a rule
    if len(set(zip(quantization.scales, quantization.zero_points, strict=True))) == 1:
        return None
    return scale * np.array(quantization.scales, np.float64)


def _weights(op: Weighted) -> Array:
    """Return 8-bit weights in uint8's domain, in their own shape."""
    assert op.weights.data is not None  # a rule: constant
    raw = np.ascontiguousarray(op.weights.data).view(np.uint8)
    return np.bitwise_xor(raw, np.uint8(0x80)) if signed_offset(op.weights.type) else raw


def _bias(op: Weighted, channels: int) -> Array:
    if op.bias is None or op.bias.data is None:
        return np.zeros(channels, np.int64)
    return op.bias.data.reshape(channels).astype(np.int64)


def _direct(op: Conv2D, source: Feature, output: Feature) -> list[Layer]:
    kernels, _, _, depth = op.weights.shape
    weights, groups = _weights(op).reshape(kernels, -1, depth), source.shape[3] // depth
    together = _groups_together(groups, depth, kernels // groups)
    if groups == together:
        whole = weights if groups == 1 else _ungrouped(weights, groups, _zeros(op))
        geometry = _windowed(_geometry(source.shape, output.shape, source), op)
        return [_layer(op, source, output, geometry, whole)]
    found, size = [], kernels // groups * together
    for number in range(groups // together):
        some = slice(number * size, (number + 1) * size)
        taken = _channels(source, f"{op.where}/group {number}", number, together * depth)
        made = _channels(output, f"{op.where}/results {number}", number, size)
        zeros = _zeros(op, some)
        geometry = _windowed(_geometry(taken.shape, made.shape, taken), op)
        whole = _ungrouped(weights[some], together, zeros)
        found.append(_layer(op, taken, made, geometry, whole, some))
    return found


def _groups_together(groups: int, depth: int, results: int) -> int:
    """Return how many groups of a convolution are done as one over all their channels: the fewest
    whose inputs and results are whole surfaces, results in pairs as the DPU writes them.
    """
    for number in range(1, groups):
        if not (groups % number or number * depth % LANES or number * results % (2 * LANES)):
            return number
    return groups


def _channels(feature: Feature, name: str, number: int, count: int) -> Feature:
    """Return the feature map of the number-th `count` channels of another."""
    start = number * count // LANES * feature.surface_bytes
    return feature.part(name, (*feature.shape[:3], count), start)


def deconvolved_kernel(op: TransposeConv) -> tuple[int, int]:
    """Return rows and columns of a transposed convolution's kernel, with taps of zero behind it
    where it does not reach from one input to the next or to the last output.
    """
    found = []
    for axis, before in ((1, op.padding.top), (2, op.padding.left)):
        step, last = op.stride[axis - 1], (op.input.shape[axis] - 1) * op.stride[axis - 1]
        found.append(max(op.weights.shape[axis], step, op.output.shape[axis] + before - last))
    return found[0], found[1]


def _transposed(op: TransposeConv, source: Feature, output: Feature) -> Layer:
    """Return a deconvolution: a convolution of the spread map with the kernel turned around."""
    kernels, high, wide, depth = op.weights.shape
    height, width = deconvolved_kernel(op)
    zero = np.asarray(_zeros(op)).reshape(-1, 1, 1, 1)
    weights = np.empty((kernels, height, width, depth), np.uint8)
    weights[...] = zero & 0xFF
    weights[:, height - high :, width - wide :] = _weights(op)[:, ::-1, ::-1]
    geometry = dataclasses.replace(
        _geometry(source.shape, output.shape, source),
        kernel=(width, height),
        spread=(op.stride[1], op.stride[0]),
        pads=(width - 1 - op.padding.left, 0, height - 1 - op.padding.top, 0),
    )
    return _layer(op, source, output, geometry, weights.reshape(kernels, -1, depth))


def _ungrouped(weights: Array, groups: int, zero: int | Array) -> Array:
    """Return weights over all channels: zero outside each kernel's own group."""
    kernels, taps, depth = weights.shape
    full = np.empty((groups, kernels // groups, taps, groups, depth), np.uint8)
    fill = np.broadcast_to(np.asarray(zero) & 0xFF, (kernels,)).reshape(groups, -1)
    full[...] = fill[:, :, None, None, None]
    each = np.arange(groups)
    full[each, :, :, each, :] = weights.reshape(groups, kernels // groups, taps, depth)
    return full.reshape(kernels, taps, groups * depth)


def _depthwise(op: DepthwiseConv2D, source: Feature, output: Feature) -> list[Layer]:
    results, channels = op.weights.shape[3], source.shape[3]
    weights = _weights(op).reshape(1, -1, results)
    if channels == 1:  # every output channel reads the one there is
        geometry = _geometry(source.shape, output.shape, source)
        kernels = np.ascontiguousarray(weights.transpose(2, 1, 0))
        return [_layer(op, source, output, _windowed(geometry, op), kernels)]
    before = []
    if channels != results:
        before = [_repeat(op, source, results // channels)]
        source = before[0].output
    geometry = _geometry(source.shape, output.shape, source, depthwise=True)
    return [*before, _layer(op, source, output, _windowed(geometry, op), weights)]


def _repeat(op: DepthwiseConv2D, source: Feature, times: int) -> Layer:
    name = f"{op.where}/repeated"
    output = Feature(name, (*source.shape[:3], source.shape[3] * times), flip=source.flip)
    return repeated(name, source, output, op.input.type)


def _matrix(op: FullyConnected, source: Feature, output: Feature) -> Layer:
    rows, columns = op.weights.shape
    images, height, width, depth = source.shape
    weights = _weights(op)
    if columns != depth:  # the whole map is one window
        geometry = _geometry(source.shape, (1, 1, 1, rows), source)
        geometry = dataclasses.replace(geometry, kernel=(width, height))
        return _layer(op, source, output, geometry, weights.reshape(rows, height * width, depth))
    inside, outside = source.shape, output.shape
    if inside[:3] != outside[:3]:
        pixels = height * width * images
        inside, outside = (1, 1, pixels, depth), (1, 1, pixels, rows)
    return _layer(
        op, source, output, _geometry(inside, outside, source), weights.reshape(rows, 1, columns)
    )
