# Ref: docs/hardware/rocket.md §10 (what Mesa gets wrong, and what is right)
"""Convolutions as the lowering of strategy `exact` builds them from operations of the IR."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from teflon.ir.graph import Op
from teflon.ir.ops import Add, Conv2D, DepthwiseConv2D, FullyConnected
from teflon.ir.quantized import activation_range
from teflon.ir.types import NO_PADDING, Array, Padding, TensorType
from teflon_rocket.operation import Feature
from teflon_rocket.scales import Affine, signed_offset

Shape = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Draft:
    """One convolution: sizes (y, x), everything quantised in uint8's domain.

    `result` is how the convolution's own output is quantised, `clamp` its range; with an addition
    fused into it, `sum` and `sum_clamp` are those of what is written.
    """

    name: str
    input: Feature
    output: Feature
    in_shape: Shape
    out_shape: Shape
    weights: Array  # uint8 [kernels, taps, channels]
    kernel: tuple[int, int]
    weight_affine: Affine
    bias: Array  # int64 [out channels]
    source: Affine
    result: Affine
    clamp: tuple[int, int]
    depthwise: bool = False
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    operand: Feature | None = None
    operand_affine: Affine | None = None
    sum: Affine | None = None
    sum_clamp: tuple[int, int] = (0, 255)
    macs: int = 0

    @property
    def unit(self) -> float:
        """What one step of the accumulator is worth."""
        return self.source.scale * self.weight_affine.scale


def clamp_of(op: Conv2D | DepthwiseConv2D | FullyConnected | Add) -> tuple[int, int]:
    """Return the range of an operation's output, in uint8's domain."""
    tensor = op.output.type
    low, high = op.clamp if op.clamp is not None else activation_range(op.activation, tensor)
    offset = signed_offset(tensor)
    return max(low + offset, 0), min(high + offset, 255)


def draft(op: Op, source: Feature, output: Feature) -> list[Draft]:
    """Return the convolutions that compute an operation; an intermediate map lies between them."""
    if isinstance(op, Conv2D):
        return [_direct(op, source, output)]
    if isinstance(op, DepthwiseConv2D):
        return _depthwise(op, source, output)
    assert isinstance(op, FullyConnected)  # `lower` sends nothing else
    return [_matrix(op, source, output)]


def _bytes(data: Array | None, tensor: TensorType) -> Array:
    """Return 8-bit constants in uint8's domain."""
    assert data is not None  # checked: constant
    raw = np.ascontiguousarray(data).view(np.uint8)
    return np.bitwise_xor(raw, np.uint8(0x80)) if signed_offset(tensor) else raw


def _bias(op: Conv2D | DepthwiseConv2D | FullyConnected, channels: int) -> Array:
    if op.bias is None or op.bias.data is None:
        return np.zeros(channels, np.int64)
    return op.bias.data.reshape(channels).astype(np.int64)


def _common(
    op: Conv2D | DepthwiseConv2D | FullyConnected, source: Feature, output: Feature
) -> Draft:
    channels = op.output.shape[-1]
    return Draft(
        name=op.where,
        input=source,
        output=output,
        in_shape=source.shape,
        out_shape=output.shape,
        weights=_bytes(op.weights.data, op.weights.type),
        kernel=(1, 1),
        weight_affine=Affine.of(op.weights.type),
        bias=_bias(op, channels),
        source=Affine.of(op.input.type),
        result=Affine.of(op.output.type),
        clamp=clamp_of(op),
        macs=op.macs,
    )


def _direct(op: Conv2D, source: Feature, output: Feature) -> Draft:
    kernels, _, _, depth = op.weights.shape
    base = _common(op, source, output)
    spread, kernel = _dilated(base, op.dilation)
    weights = spread.reshape(kernels, -1, depth)
    groups = source.shape[3] // depth
    if groups > 1:
        weights = _ungrouped(weights, groups, base.weight_affine.zero)
    return dataclasses.replace(
        base, weights=weights, kernel=kernel, stride=op.stride, padding=op.padding
    )


def _dilated(base: Draft, dilation: tuple[int, int]) -> tuple[Array, tuple[int, int]]:
    """Return weights [kernels, height, width, channels] with zeros between the taps, and the size.

    The CNA has registers for dilation that nobody has been seen to use; more taps are exact.
    """
    weights = base.weights
    kernels, high, wide, depth = weights.shape
    size = ((high - 1) * dilation[0] + 1, (wide - 1) * dilation[1] + 1)
    if dilation == (1, 1):
        return weights, size
    zero = base.weight_affine.zero & 0xFF
    spread = np.full((kernels, *size, depth), zero, np.uint8)
    spread[:, :: dilation[0], :: dilation[1]] = weights
    return spread, size


def _ungrouped(weights: Array, groups: int, zero: int) -> Array:
    """Return weights over all channels: zero outside each kernel's own group."""
    kernels, taps, depth = weights.shape
    full = np.full((groups, kernels // groups, taps, groups, depth), zero & 0xFF, np.uint8)
    each = np.arange(groups)
    full[each, :, :, each, :] = weights.reshape(groups, kernels // groups, taps, depth)
    return full.reshape(kernels, taps, groups * depth)


def _depthwise(op: DepthwiseConv2D, source: Feature, output: Feature) -> list[Draft]:
    results, channels = op.weights.shape[3], source.shape[3]
    plain = _common(op, source, output)
    dilated, kernel = _dilated(plain, op.dilation)
    base = dataclasses.replace(plain, kernel=kernel, stride=op.stride, padding=op.padding)
    weights = dilated.reshape(1, -1, results)
    if channels == 1:  # every output channel reads the one there is
        kernels = np.ascontiguousarray(weights.transpose(2, 1, 0))
        return [dataclasses.replace(base, weights=kernels)]
    if channels == results:
        return [dataclasses.replace(base, weights=weights, depthwise=True)]
    repeated = Feature(f"{op.where}/repeated", (*source.shape[:3], results), flip=source.flip)
    spread = _repeat(base, repeated, results // channels)
    last = dataclasses.replace(
        base, input=repeated, in_shape=repeated.shape, weights=weights, depthwise=True
    )
    return [spread, last]


def _repeat(base: Draft, repeated: Feature, times: int) -> Draft:
    """Return the 1x1 convolution that writes every channel `times` times in a row, unchanged."""
    channels = base.in_shape[3]
    weights = np.full((channels * times, 1, channels), 128, np.uint8)
    each = np.arange(channels * times)
    weights[each, 0, each // times] = 129
    return Draft(
        name=repeated.name,
        input=base.input,
        output=repeated,
        in_shape=base.in_shape,
        out_shape=repeated.shape,
        weights=weights,
        kernel=(1, 1),
        weight_affine=Affine(1.0, 128),
        bias=np.zeros(channels * times, np.int64),
        source=base.source,
        result=base.source,
        clamp=(0, 255),
    )


def _matrix(op: FullyConnected, source: Feature, output: Feature) -> Draft:
    rows, columns = op.weights.shape
    base = _common(op, source, output)
    images, height, width, depth = source.shape
    if columns != depth:  # the whole map is one window
        weights = base.weights.reshape(rows, height * width, depth)
        shape = (1, 1, 1, rows)
        return dataclasses.replace(base, weights=weights, kernel=(height, width), out_shape=shape)
    flat = base.weights.reshape(rows, 1, columns)
    if output.shape[:3] == source.shape[:3]:
        return dataclasses.replace(base, weights=flat)
    pixels = height * width * images
    return dataclasses.replace(
        base, weights=flat, in_shape=(1, 1, pixels, depth), out_shape=(1, 1, pixels, rows)
    )


def identity(name: str, source: Feature, tensor: TensorType) -> Draft:
    """Return the 1x1 convolution that hands a map on, with an accumulator 127 times as fine.

    Its output is set by whoever fuses an addition into it.
    """
    channels = source.shape[3]
    weights = np.full((channels, 1, channels), 128, np.uint8)
    each = np.arange(channels)
    weights[each, 0, each] = 255
    affine = Affine.of(tensor)
    return Draft(
        name=name,
        input=source,
        output=source,
        in_shape=source.shape,
        out_shape=source.shape,
        weights=weights,
        kernel=(1, 1),
        weight_affine=Affine(1 / 127, 128),
        bias=np.zeros(channels, np.int64),
        source=affine,
        result=affine,
        clamp=(0, 255),
    )
