# Ref: docs/hardware/rocket.md §3 (field widths), §5.1, §10.2
"""Convolutions, depthwise convolutions, fully connected layers: limits and lowering."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from teflon.ir.graph import Graph, Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.types import DType
from teflon_common.layout import image_shape
from teflon_rocket.chips import Chip
from teflon_rocket.exact.encode import convolutions
from teflon_rocket.exact.layers import deconvolved_kernel, layers
from teflon_rocket.exact.state import Family, Lowering
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.data import Feature

RULES = Family()

Windowed = Conv2D | DepthwiseConv2D
Weighted = Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv


@RULES.requires
def constant_weights(op: Weighted, chip: Chip) -> str | None:
    """Weights and bias must be constant."""
    loose = [v for v in (op.weights, op.bias) if v is not None and not v.is_constant]
    return f"{loose[0].name!r} is computed" if loose else None


@RULES.requires
def weights_like_input(op: Weighted, chip: Chip) -> str | None:
    """Weights must have the input's type, the bias int32."""
    weights, bias = op.weights.type.dtype, op.bias.type.dtype if op.bias else DType.INT32
    if weights is op.input.type.dtype and bias is DType.INT32:
        return None
    return f"weights are {weights.value}, bias is {bias.value}"


@RULES.requires
def weight_scales(op: Weighted, chip: Chip) -> str | None:
    """Weights must have a scale, or one for each output channel, all above 0 and finite."""
    quantization = op.weights.type.quantization
    if quantization is None:
        return "there is no scale"
    wrong = [scale for scale in quantization.scales if not 0 < scale < float("inf")]
    if wrong:
        return f"scale is {wrong[0]}"
    count, channels = len(quantization.scales), op.output.shape[-1]
    return None if count in (1, channels) else f"{count} scales for {channels} channels"


@RULES.requires
def insertions(op: TransposeConv, chip: Chip) -> str | None:
    """Strides of a transposed convolution must be at most {max_spread}."""
    return None if max(op.stride) <= chip.max_spread else f"stride is {op.stride}"


@RULES.requires
def kernel(op: Windowed, chip: Chip) -> str | None:
    """Kernels must have at most {max_kernel} rows and columns."""
    high, wide = op.weights.shape[1:3]
    return None if max(high, wide) <= chip.max_kernel else f"kernel is {high}x{wide}"


@RULES.requires
def dilation(op: Windowed, chip: Chip) -> str | None:
    """Dilations must be at most {max_dilation}."""
    return None if max(op.dilation) <= chip.max_dilation else f"dilation is {op.dilation}"


@RULES.requires
def padding(op: Windowed, chip: Chip) -> str | None:
    """Padding must be at most {max_pad} above and left of the map."""
    largest = max(op.padding.top, op.padding.left)
    return None if largest <= chip.max_pad else f"padding is {op.padding}"


@RULES.requires
def transposed_kernel(op: TransposeConv, chip: Chip) -> str | None:
    """A transposed convolution's kernel, with taps of zero where it is smaller than the stride or
    does not reach every output, must have at most {max_kernel} rows and columns, and exceed the
    padding above and left by at most {max_pad} and 1.
    """
    high, wide = deconvolved_kernel(op)
    before = max(high - 1 - op.padding.top, wide - 1 - op.padding.left)
    if max(high, wide) <= chip.max_kernel and before <= chip.max_pad:
        return None
    return f"kernel is {high}x{wide}, padding is {op.padding}"


@RULES.requires
def one_matrix(op: FullyConnected, chip: Chip) -> str | None:
    """A fully connected layer's rows must be the input's last axis, or the whole input."""
    rows = op.weights.shape[1]
    images, height, width, depth = image_shape(op.input.shape)
    if rows == depth and (images == 1 or op.output.shape[:-1] == op.input.shape[:-1]):
        return None
    whole = images == 1 and rows == height * width * depth
    if whole and max(height, width) <= chip.max_kernel:
        return None
    return f"weights have {rows} columns, the input is {list(op.input.shape)}"


@RULES.lowers
def convolution(op: Weighted, state: Lowering) -> Iterator[Operation]:
    """One convolution on the device, or a few in a row."""
    for layer in layers(op, state.features[op.input], state.features[op.output]):
        yield from convolutions(layer, state.chip, layer.output in state.added)


def rows_of_bytes(graph: Graph, features: Mapping[Value, Feature]) -> dict[Value, Feature]:
    """Return other feature maps for inputs that the CNA can read as rows of bytes: those of one
    channel which only convolutions read.
    """
    found: dict[Value, Feature] = {}
    for value in (v for v in graph.inputs if v in features):
        feature, users = features[value], graph.users(value)
        windowed = all(isinstance(user, Conv2D | DepthwiseConv2D) for user in users)
        if feature.shape[3] == 1 and users and windowed and not graph.is_output(value):
            found[value] = dataclasses.replace(
                feature, layout="rows", flip=feature.flip ^ 0x80, fill=feature.fill ^ 0x80
            )
    return found
