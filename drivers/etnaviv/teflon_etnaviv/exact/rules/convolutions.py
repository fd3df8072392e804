"""Convolutions, depthwise convolutions and fully connected layers on the NN cores."""

# Ref: docs/hardware/etnaviv.md sections 1.3 (limits), 3.1 (field widths), 4 (geometry)

from __future__ import annotations

import math

from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected
from teflon.ir.types import DType
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.grouping import groups
from teflon_etnaviv.exact.grouping.kernels import per_channel
from teflon_etnaviv.exact.grouping.pieces import pieces, spread
from teflon_etnaviv.exact.layers import activation
from teflon_etnaviv.exact.layers import convolution as layers
from teflon_etnaviv.exact.layers.fully_connected import fully_connected as fully_connected_layer
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules.tensors import BYTES, tensors, too_wide
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.nn.weights import folded
from teflon_etnaviv.tensors import Layout
from teflon_etnaviv.tp.blocks import Blocks

RULES = Rules[Chip, Lower]()

Convolution = Conv2D | DepthwiseConv2D
Weighted = Conv2D | DepthwiseConv2D | FullyConnected


@RULES.requires_first
def constant_weights(op: Weighted, chip: Chip) -> str | None:
    """Weights must be constant bytes, the bias constant int32."""
    kind = op.weights.type.dtype
    if kind not in BYTES or op.weights.data is None:
        return f"weights are {kind.value}{'' if op.weights.is_constant else ', computed'}"
    if op.bias is not None and (op.bias.data is None or op.bias.type.dtype is not DType.INT32):
        return f"bias is {op.bias.type.dtype.value}{'' if op.bias.is_constant else ', computed'}"
    return None


@RULES.requires
def one_zero_point(op: Weighted, chip: Chip) -> str | None:
    """All output channels must have the same zero point."""
    kind = op.weights.type.quantization
    found = len(set(kind.zero_points)) if kind else 1
    return f"weights have {found}" if found > 1 else None


@RULES.requires
def countable_rows(op: Convolution, chip: Chip) -> str | None:
    """Rows that change their layout must have at most {tp_image_max} bytes, maps that many rows."""
    return too_wide(tensors(op), chip)


@RULES.requires
def no_upper_clamp(op: Weighted, chip: Chip) -> str | None:
    """An activation must let through up to the largest value of its type."""
    return activation.clamps_above(op)


@RULES.requires
def clamp_at_zero(op: Weighted, chip: Chip) -> str | None:
    """A lower clamp must be at the zero point."""
    return activation.clamps_off_zero(op)


@RULES.requires
def no_dilation(op: Convolution, chip: Chip) -> str | None:
    """Dilation must be 1 in both directions."""
    return None if op.dilation == (1, 1) else f"dilation is {op.dilation}"


@RULES.requires
def stride(op: Convolution, chip: Chip) -> str | None:
    """Strides must be 1 or 2, the same in both directions."""
    return None if op.stride in ((1, 1), (2, 2)) else f"stride is {op.stride}"


@RULES.requires
def one_group(op: Conv2D, chip: Chip) -> str | None:
    """Weights must have as many channels as the input."""
    mine, wanted = op.weights.shape[3], op.input.shape[3]
    return None if mine == wanted else f"they have {mine}, it has {wanted}"


@RULES.requires
def map_size(op: Convolution, chip: Chip) -> str | None:
    """Maps must be at most {nn_image_max} high and wide."""
    factor = 2 if op.stride == (2, 2) and not layers.uses_blocks(op) else 1
    sizes = {"output": [factor * n for n in op.output.shape[1:3]], "input": op.input.shape[1:3]}
    for what, (height, width) in sizes.items():
        if max(height, width) > chip.nn_image_max:
            return f"{what} counts as {height}x{width}"
    return None


@RULES.requires
def planes(op: Convolution, chip: Chip) -> str | None:
    """Inputs and outputs must have at most {nn_planes_max} planes."""
    most = max(op.input.shape[3] * (4 if layers.uses_blocks(op) else 1), op.output.shape[3])
    return None if most <= chip.nn_planes_max else f"{most} planes"


@RULES.requires
def kernel_size(op: Convolution, chip: Chip) -> str | None:
    """Kernels must have at most {kernel_size_max} rows and columns, twice that where a CONV_2D has
    strides of 2.
    """
    rows, columns = op.weights.shape[1:3]
    most = chip.kernel_size_max * (2 if layers.uses_blocks(op) else 1)
    return None if max(rows, columns) <= most else f"kernel is {rows}x{columns}"


@RULES.requires
def padding(op: Convolution, chip: Chip) -> str | None:
    """Padding above and left must be at most {padding_max}; for a CONV_2D with strides of 2 only
    where its kernel is 1x1.
    """
    most = 0 if layers.uses_blocks(op) else max(op.padding.top, op.padding.left)
    return None if most <= chip.padding_max else f"pads by {most}"


@RULES.requires
def one_row(op: FullyConnected, chip: Chip) -> str | None:
    """A fully connected layer must have one row of inputs and one of outputs."""
    outputs, inputs = op.weights.shape[0], op.weights.shape[-1]
    if math.prod(op.input.shape) == inputs and math.prod(op.output.shape) == outputs:
        return None
    return f"input is {list(op.input.shape)}, a row has {inputs}"


@RULES.requires
def matrix_size(op: FullyConnected, chip: Chip) -> str | None:
    """A fully connected layer must have at most {nn_planes_max} outputs, and inputs that fold into
    at most as many planes.
    """
    depth, outputs = folded(op.weights.shape[-1], chip.kernel_size_max)[2], op.weights.shape[0]
    if max(depth, outputs) <= chip.nn_planes_max:
        return None
    return f"{outputs} outputs, {depth} planes of inputs"


@RULES.lowers
def convolution(op: Convolution, state: Lowering) -> None:
    """Run in planes; CONV_2D with strides of 2 over blocks of pixels, which hold the padding."""
    if isinstance(op, DepthwiseConv2D) and op.output.shape[3] != op.input.shape[3] > 1:
        op = spread(op) if per_channel(op) else op
    cut = groups.of_convolution(op, state)
    source = cut.source
    if layers.uses_blocks(op):
        shape = layers.blocks_shape(op)
        blocks = source.like(f"{op.input.name} (2x2 blocks)", shape)
        jobs = min(state.chip.tp_jobs, shape[2])
        pad = op.padding
        state.add(Blocks(op.where, (source,), (blocks,), pad.top, pad.left, jobs))
        source = blocks
    target = state.define_planes(op.output, cut.outputs)
    own = isinstance(op, DepthwiseConv2D) and op.input.shape[3] > 1
    for piece in pieces(op, cut.groups, cut.inputs):
        layer = layers.convolution(piece.op, state.chip)
        read = state.part(source, piece.first, layer.out_channels) if own else source
        written = state.part(target, piece.first, layer.out_channels)
        state.add(NN(op.where, (read,), (written,), layer, CODING))


@RULES.lowers
def fully_connected(op: FullyConnected, state: Lowering) -> None:
    """Run on the bytes as they lie in rows."""
    cut = groups.of_fully_connected(op, state)
    source, target = cut.source, state.define_planes(op.output, cut.outputs, Layout.ROWS)
    for piece in pieces(op, cut.groups, cut.inputs):
        layer = fully_connected_layer(piece.op, state.chip)
        written = state.part(target, piece.first, layer.out_channels)
        state.add(NN(op.where, (source,), (written,), layer, CODING))
