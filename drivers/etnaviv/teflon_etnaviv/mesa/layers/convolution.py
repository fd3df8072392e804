"""Layers of convolutions, as Mesa forms them.

Ref: docs/hardware/etnaviv.md sections 4.1, 4.2, 4.4
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml_nn.c and etnaviv_ml.c
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon.ir.types import Activation
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.mesa.layers.weights import file_weights, output_scale
from teflon_etnaviv.nn.layer import Layer
from teflon_etnaviv.nn.weights import bias_of, channels_first, grown, on_blocks, planes_first
from teflon_etnaviv.rounding import cdiv
from teflon_etnaviv.tensors import Tensor

Convolution = Conv2D | DepthwiseConv2D


def pads(op: Convolution) -> bool:
    """Whether the operation pads at all: Mesa's `same`."""
    p = op.padding
    return any((p.top, p.bottom, p.left, p.right))


def is_pointwise(op: Convolution) -> bool:
    """Mesa's flag: 1x1, and not with a fused RELU6, for which its frontend returns early (B3)."""
    return op.weights.shape[1:3] == (1, 1) and op.activation is not Activation.RELU6


@dataclass(frozen=True)
class StrideForm:
    """How a strided convolution is carried out (section 4.1)."""

    reshuffle: bool  # a TP job brings each 2x2 block's pixels into channels first
    first_pixel: bool  # computed at stride 1, three of four results dropped


def stride_form(op: Convolution, chip: Chip) -> StrideForm:
    """Return the form Mesa chooses."""
    if op.stride[0] == 1:
        return StrideForm(False, False)
    _, height, _, in_channels = op.input.shape
    depthwise, pointwise = isinstance(op, DepthwiseConv2D), is_pointwise(op)
    if chip.huffman:
        dense = height >= 3 and in_channels > 1
        reshuffle = not (depthwise or (pointwise and (dense or pads(op))))
        return StrideForm(reshuffle, depthwise or (pointwise and (dense or pads(op))))
    reshuffle = not (pointwise or (depthwise and (height > 5 or height < 3)))
    first_pixel = (depthwise or pointwise) and not (depthwise and 2 < height < 8)
    return StrideForm(reshuffle, first_pixel)


def convolution(op: Convolution, chip: Chip) -> Layer:
    """Return the layer of a convolution with equal strides of 1 or 2."""
    source, target = Tensor.of(op.input), Tensor.of(op.output)
    form = stride_form(op, chip)
    height, width, in_channels = source.sizes
    _, kernel_h, kernel_w, _ = op.weights.shape
    channels = target.shape[3]
    plain = Layer(
        height=height,
        width=width,
        in_channels=in_channels,
        planes=in_channels,
        out_height=target.shape[1],
        out_width=target.shape[2],
        out_channels=channels,
        kernel_height=kernel_h,
        kernel_width=kernel_w,
        in_zero=source.zero_point,
        out_zero=target.zero_point,
        scale=output_scale(op.input, op.weights, target),
        weights=file_weights(op.weights),
        bias=bias_of(op.bias, channels),
        stride=op.stride[0],
        depthwise=isinstance(op, DepthwiseConv2D),
        pointwise=is_pointwise(op),
        relu=op.activation in (Activation.RELU, Activation.RELU6),
        first_pixel=form.first_pixel,
        title=op.title,
    )
    layer = _arranged(plain, chip)
    if layer.stride > 1 and not layer.first_pixel:
        layer = _destrided(layer, pads(op))
    return replace(layer, offset=_first_tap(layer) if pads(op) else 0)


def _arranged(layer: Layer, chip: Chip) -> Layer:
    """Bring weights into [OC][IC][KH][KW] order (steps 1 to 3 of section 4.2 but for strides)."""
    if layer.pointwise and layer.in_channels == 1:
        return grown(layer)
    if not layer.depthwise:
        return planes_first(layer)
    arranged = channels_first(layer)
    if chip.huffman:
        return replace(arranged, in_channels=1)
    diagonal = layer.in_channels > 1
    return replace(arranged, weights=replace(arranged.weights, diagonal=diagonal))


def _destrided(layer: Layer, same: bool) -> Layer:
    """Turn a stride-2 layer into a stride-1 layer over four times the channels, half the size."""
    more = (2 if layer.kernel_height == 5 else 1) if same else 0
    height, width = cdiv(layer.height, 2) + more, cdiv(layer.width, 2) + more
    return replace(on_blocks(layer), height=height, width=width)


def _first_tap(layer: Layer) -> int:
    """Return the offset of the first tap of a padded convolution (section 4.4)."""
    x, kernel = layer.width, layer.kernel_height
    if layer.stride == 1:
        if kernel <= 2:
            return 0
        return -1 if kernel < 5 else -2
    if not 2 < kernel <= x:
        return 0
    if not (x < 5 or (layer.depthwise and 5 in (kernel, x))):
        return 0
    return -1 if (x <= 5 and kernel < 5) or (x > 5 and kernel >= 5) else -2
