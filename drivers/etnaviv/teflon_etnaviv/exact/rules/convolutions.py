"""Convolutions, depthwise convolutions and fully connected layers on the NN cores."""

# Ref: docs/hardware/etnaviv.md sections 1.3 (limits), 3.1 (field widths), 4 (geometry)

from __future__ import annotations

from collections.abc import Sequence

from teflon.ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from teflon.ir.types import DType
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.grouping import groups
from teflon_etnaviv.exact.grouping.kernels import per_channel
from teflon_etnaviv.exact.grouping.pieces import pieces, spread
from teflon_etnaviv.exact.layers import convolution as layers
from teflon_etnaviv.exact.layers.fully_connected import fully_connected as fully_connected_layer
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules.tensors import BYTES, tensors, too_wide
from teflon_etnaviv.exact.shapes import forms, kernels
from teflon_etnaviv.exact.shapes import lower as shapes
from teflon_etnaviv.exact.windows.images import STRIDE_MAX
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.nn.weights import folded
from teflon_etnaviv.tensors import Layout
from teflon_etnaviv.tp.blocks import Blocks
from teflon_etnaviv.tp.moves import scanned

RULES = Rules[Chip, Lower]()

Convolution = Conv2D | DepthwiseConv2D
Weighted = Conv2D | DepthwiseConv2D | FullyConnected | TransposeConv


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
def countable_rows(op: Convolution | TransposeConv, chip: Chip) -> str | None:
    """Rows that change their layout must have at most {tp_image_max} bytes, maps that many rows."""
    return too_wide(tensors(op), chip)


@RULES.requires
def map_size(op: Convolution, chip: Chip) -> str | None:
    """Maps must be at most {nn_image_max} high and wide, with padding where it is more than
    {padding_max}; with strides that the cores do not have, as if they were 1, and with dilation the
    images that it skips to, one below the other.
    """
    for what, (height, width) in _maps(op, chip).items():
        if max(height, width) > chip.nn_image_max:
            return f"{what} counts as {height}x{width}"
    return None


def _maps(op: Convolution, chip: Chip) -> dict[str, tuple[int, int]]:
    """Return the sizes that the cores count."""
    pad, kind = op.padding, forms.form(op, chip)
    high, wide = op.input.shape[1:3]
    if max(pad.top, pad.left) > chip.padding_max:
        high, wide = high + pad.top + pad.bottom, wide + pad.left + pad.right
    out_high, out_wide = op.output.shape[1:3]
    if kind is forms.Form.SPACE:
        (rows, columns), (down, across) = forms.space(op), op.dilation
        out_high, out_wide = rows * down * across, columns
    elif kind is forms.Form.PHASES:
        sizes = forms.phases(op, chip)
        if sizes is not None:
            high, wide = max(high, sizes.blocks[0]), max(wide, sizes.blocks[1])
    elif kind is forms.Form.THINNED or (op.stride == (2, 2) and not forms.over_pairs(op)):
        out_high, out_wide = op.stride[0] * out_high, op.stride[1] * out_wide
    return {"output": (out_high, out_wide), "input": (high, wide)}


@RULES.requires
def countable_steps(op: Convolution, chip: Chip) -> str | None:
    """With a stride that picks rows, so many rows as it counts must have at most 65535 bytes."""
    kind, down = forms.form(op, chip), op.stride[0]
    wide = op.input.shape[2] if kind is forms.Form.PICKED else op.stride[1] * op.output.shape[2]
    if kind not in (forms.Form.PICKED, forms.Form.THINNED) or op.output.shape[1] == 1:
        return None
    return None if down * wide <= STRIDE_MAX else f"{down} rows have {down * wide}"


@RULES.requires
def planes(op: Convolution, chip: Chip) -> str | None:
    """Inputs and outputs must have at most {nn_planes_max} planes; strides, and kernels of more
    than {kernel_size_max} rows or columns, bring blocks of elements into planes.
    """
    inputs, outputs = op.input.shape[3], op.output.shape[3]
    if forms.form(op, chip) is forms.Form.PHASES:
        if forms.phases(op, chip) is not None:
            return None
        rows, columns = forms.filled(op)
        return f"{inputs} and {outputs}, kernel is {rows}x{columns}, stride is {op.stride}"
    if forms.form(op, chip) is forms.Form.SPACE:
        inputs *= op.dilation[0] * op.dilation[1]
    most = max(inputs * (4 if forms.over_pairs(op) else 1), outputs)
    return None if most <= chip.nn_planes_max else f"{most} planes"


@RULES.requires
def transposed_size(op: TransposeConv, chip: Chip) -> str | None:
    """The kernel of a transposed convolution must have at most {kernel_size_max} times as many rows
    and columns as its strides, and more than it has padding; maps must be at most {nn_image_max}
    high and wide; channels, for each place between two inputs, at most {nn_planes_max}.
    """
    rows, columns = kernels.taps(op)
    first, count = shapes.blocks_of(op)
    outputs = op.output.shape[3] * op.stride[0] * op.stride[1]
    pad = f"{op.padding.top} and {op.padding.left}"
    sizes = [n + p for n, p in zip(op.input.shape[1:3], (rows, columns), strict=True)]
    if max(rows, columns) > chip.kernel_size_max or first[0] >= rows or first[1] >= columns:
        kernel = _by(op.weights.shape[1:3])
        return f"kernel is {kernel}, stride is {_by(op.stride)}, padding is {pad}"
    if max(op.input.shape[3], outputs) > chip.nn_planes_max:
        return f"{op.input.shape[3]} and {outputs} planes"
    largest = max(*sizes, *count, *op.output.shape[1:3])
    return None if largest <= chip.nn_image_max else f"{largest} rows or columns"


@RULES.requires
def countable_places(op: Convolution | TransposeConv, chip: Chip) -> str | None:
    """Results that are computed in channels must fold into images that the TP cores can count."""
    if isinstance(op, TransposeConv):
        size, step = shapes.blocks_of(op)[1], op.stride
    elif forms.form(op, chip) is forms.Form.SPACE:
        size, step = forms.space(op), op.dilation
    else:
        sizes = forms.phases(op, chip) if forms.form(op, chip) is forms.Form.PHASES else None
        size, step = (sizes.count, sizes.times) if sizes is not None else ((1, 1), (1, 1))
    if scanned(size[0], size[1], step[0] * step[1]) is not None:
        return None
    return f"{_by(size)} in {_by(step)} places"


def _by(pair: Sequence[int]) -> str:
    return f"{pair[0]}x{pair[1]}"


@RULES.requires
def rows(op: FullyConnected, chip: Chip) -> str | None:
    """The rows of a fully connected layer must be the pixels of an image that is at most
    {nn_image_max} high and wide, those of inputs with at most {nn_planes_max} elements.
    """
    count, inputs = op.input.type.size // op.weights.shape[-1], op.weights.shape[-1]
    if count == 1:
        return None
    high, wide = shapes.image_of(op, chip.nn_image_max)
    row = wide * max(inputs, op.weights.shape[0])
    most = max(high, wide), inputs, row
    limits = chip.nn_image_max, chip.nn_planes_max, chip.tp_image_max
    if all(n <= limit for n, limit in zip(most, limits, strict=True)):
        return None
    return f"{count} rows of {inputs}"


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
    """Bring it into the shapes that the cores compute."""
    shapes.shaped(op, state, _plain)


@RULES.lowers
def transpose_conv(op: TransposeConv, state: Lowering) -> None:
    """Compute the outputs at each place of blocks as a convolution."""
    shapes.transposed(op, state, _plain)


def _plain(op: Convolution, state: Lowering) -> None:
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
    made = state.unclamped(op, target)
    own = isinstance(op, DepthwiseConv2D) and op.input.shape[3] > 1
    for piece in pieces(op, cut.groups, cut.inputs):
        layer = layers.convolution(piece.op, state.chip)
        read = state.part(source, piece.first, layer.out_channels) if own else source
        written = state.part(made, piece.first, layer.out_channels)
        state.add(NN(op.where, (read,), (written,), layer, CODING))
    state.clamp(op, made, target)


@RULES.lowers
def fully_connected(op: FullyConnected, state: Lowering) -> None:
    """Run on the bytes as they lie in rows; several rows are pixels of an image."""
    if op.input.type.size > op.weights.shape[-1]:
        shapes.rows_as_image(op, state, _plain)
        return
    cut = groups.of_fully_connected(op, state)
    source, target = cut.source, state.define_planes(op.output, cut.outputs, Layout.ROWS)
    made = state.unclamped(op, target)
    for piece in pieces(op, cut.groups, cut.inputs):
        layer = fully_connected_layer(piece.op, state.chip)
        written = state.part(made, piece.first, layer.out_channels)
        state.add(NN(op.where, (source,), (written,), layer, CODING))
    state.clamp(op, made, target)
