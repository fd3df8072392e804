"""Poolings and means of rows and columns on the NN cores."""

# Ref: docs/hardware/etnaviv.md sections 1.3 (limits), 3.1, 3.2 (field widths), 4.7
# Ref: docs/hardware/etnaviv_vendor.md, engine chosen by the vendor

from __future__ import annotations

from dataclasses import replace

from teflon.ir.ops import AveragePool2D, MaxPool2D, Mean, ReduceMax
from teflon.ir.types import DType
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact.layers import activation
from teflon_etnaviv.exact.layers.planes import cut
from teflon_etnaviv.exact.lowering import Lower, Lowering
from teflon_etnaviv.exact.rules.tensors import tensors, too_wide
from teflon_etnaviv.exact.windows import largest, means
from teflon_etnaviv.exact.windows.images import STRIDE_MAX, Pair, Planes
from teflon_etnaviv.exact.windows.largest import Windows
from teflon_etnaviv.tensors import Tensor

RULES = Rules[Chip, Lower]()

Pool = AveragePool2D | MaxPool2D
Reduction = Mean | ReduceMax


def _size(op: Pool | Reduction) -> tuple[int, int, int]:
    """Return height, width and channels of the input."""
    return Tensor.of(op.input).sizes


def _axes(op: Reduction) -> set[int]:
    """Return the axes that are reduced, counted in (batch, height, width, channels)."""
    return {axis + 4 - len(op.input.shape) for axis in op.axes}


def _windows(op: Pool | Reduction) -> Windows:
    if isinstance(op, AveragePool2D | MaxPool2D):
        high, wide = op.output.shape[1:3]
        return Windows(op.kernel, op.stride, (high, wide), (op.padding.top, op.padding.left))
    height, width, _ = _size(op)
    axes = _axes(op)
    kernel = height if 1 in axes else 1, width if 2 in axes else 1
    return Windows(kernel, kernel, (height // kernel[0], width // kernel[1]))


@RULES.requires_first
def rows_and_columns(op: Reduction, chip: Chip) -> str | None:
    """Axes of a reduction must be rows and columns."""
    shape = (1, 1, 1, 1, *op.input.shape)[-4:]
    wrong = [axis for axis in _axes(op) if axis not in (1, 2) and shape[axis] > 1]
    if len(op.input.shape) > 4 or wrong:
        return f"axes are {list(op.axes)} of {list(op.input.shape)}"
    return None


@RULES.requires
def countable_rows(op: Pool | Reduction, chip: Chip) -> str | None:
    """Rows that change their layout must have at most {tp_image_max} bytes, maps that many rows."""
    return too_wide(tensors(op), chip)


@RULES.requires
def quantized_alike(op: Pool | ReduceMax, chip: Chip) -> str | None:
    """Input and output of a pooling must have one quantisation."""
    mine, other = op.input.type, op.output.type
    if (mine.dtype, mine.scale, mine.zero_point) == (other.dtype, other.scale, other.zero_point):
        return None
    return (
        f"scales are {mine.scale:g} and {other.scale:g},"
        f" zero points {mine.zero_point} and {other.zero_point}"
    )


@RULES.requires
def map_size(op: Pool | Reduction, chip: Chip) -> str | None:
    """The map must be at most {nn_image_max} high and wide, with padding; so many rows of it as
    a stride counts must have at most 65535 bytes.
    """
    windows, (height, width, channels) = _windows(op), _size(op)
    sizes = [(height, width), windows.reach]
    if isinstance(op, MaxPool2D | ReduceMax):
        sizes.append(largest.plan(windows, (height, width)).size)
    elif (found := means.blocks(windows, chip)) is not None:
        sizes.append(found.size)
    high, wide = (max(each) for each in zip(*sizes, strict=True))
    if cut(high, wide, channels, chip) is None:
        return f"it counts as {high}x{wide}"
    stride = windows.stride[0] if windows.count[0] > 1 else 1
    return None if stride * wide <= STRIDE_MAX else f"{stride} rows have {stride * wide}"


@RULES.requires
def mean_window(op: AveragePool2D | Mean, chip: Chip) -> str | None:
    """Windows of means must have at most {kernel_size_max} rows and columns, or consist of at most
    that many blocks of at most that many which strides do not cut; where they reach over the edge,
    at most {kernel_size_max}.
    """
    windows, size = _windows(op), _size(op)[:2]
    if max(windows.kernel) <= chip.kernel_size_max:
        return None
    if means.is_inside(windows, size) and means.blocks(windows, chip) is not None:
        return None
    return f"windows are {_by(windows.kernel)}, {_by(windows.stride)} apart"


@RULES.requires
def mean_of_means(op: Mean, chip: Chip) -> str | None:
    """Where a mean is taken of blocks first, a step of the input must be worth less than 2 of the
    output.
    """
    ratio = _ratio(op)
    if max(_windows(op).kernel) <= chip.kernel_size_max or ratio < means.TWICE:
        return None
    return f"it is worth {ratio:.3g}"


def _by(pair: Pair) -> str:
    return f"{pair[0]}x{pair[1]}"


def _ratio(op: Mean) -> float:
    return float(op.input.type.scale) / float(op.output.type.scale)


def _ends(op: Pool | Reduction, state: Lowering) -> tuple[Planes, Planes, Windows]:
    """Return input and output in planes, in the same order, and the windows."""
    windows = _windows(op)
    tensor, order = state.planes(op.input)
    source, target = Planes.of(tensor), state.define_planes(op.output, order)
    return source, Planes(target, *windows.count, source.channels), windows


def _relu(op: Pool) -> bool:
    """Whether the NN cores cut off at the zero point; other clamps are tables."""
    return activation.is_plain(op) and activation.clamps_below(op)


@RULES.lowers
def max_pool(op: MaxPool2D, state: Lowering) -> None:
    """Reduce windows to their largest elements."""
    source, target, windows = _ends(op, state)
    made = replace(target, tensor=state.unclamped(op, target.tensor))
    largest.largest(state, op.where, source, windows, made, _relu(op))
    state.clamp(op, made.tensor, target.tensor)


@RULES.lowers
def reduce_max(op: ReduceMax, state: Lowering) -> None:
    """Reduce rows and columns to their largest elements."""
    source, target, windows = _ends(op, state)
    largest.largest(state, op.where, source, windows, target, False)


@RULES.lowers
def average_pool(op: AveragePool2D, state: Lowering) -> None:
    """Sum what is inside of windows, divide by how many that is."""
    source, target, windows = _ends(op, state)
    made = replace(target, tensor=state.unclamped(op, target.tensor))
    zero = target.tensor.zero_point
    ties = means.Ties.AWAY if op.input.type.dtype is DType.INT8 else means.Ties.UP
    numbers = means.Numbers(1, (zero, zero), _relu(op), ties)
    means.mean(state, op.where, source, windows, made, numbers)
    state.clamp(op, made.tensor, target.tensor)


@RULES.lowers
def mean(op: Mean, state: Lowering) -> None:
    """Sum rows and columns; one scale divides and goes over to the output's numbers."""
    source, target, windows = _ends(op, state)
    zeros = source.tensor.zero_point, target.tensor.zero_point
    numbers = means.Numbers(_ratio(op), zeros)
    means.mean(state, op.where, source, windows, target, numbers)
