# Ref: docs/hardware/etnaviv.md sections 1.3 (limits), 3 (field widths), 10.1, 10.3
"""What strategy `exact` accepts, one function per limit: all that it computes within one step."""

from __future__ import annotations

import math
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Op, Value
from teflon.ir.types import DType
from teflon_common.checks import Checks
from teflon_etnaviv import exact_nn
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn import fc_factors

CHECKS = Checks()

_BYTES = (DType.INT8, DType.UINT8)
_PLANES_MAX = (1 << 14) - 1
_TP_MAX = (1 << 16) - 1
_OFFSET = {4: 8, 5: 16}  # bits of the first tap's offset -> largest padding

_CONVOLUTIONS = (ops.Conv2D, ops.DepthwiseConv2D)
_WEIGHTED = (*_CONVOLUTIONS, ops.FullyConnected)
_SUMS = (ops.Add, ops.Sub)
_TABLES = (ops.Relu, ops.Abs, ops.Logistic, ops.Quantize)
_MOVES = (ops.Split, ops.Reshape, ops.Pad, ops.Transpose)
_ALL = (*_WEIGHTED, *_SUMS, ops.Concatenation, *_MOVES, *_TABLES)


def reasons(op: Op, chip: Chip) -> list[str]:
    """Return why an operation cannot run on a chip; empty where it can."""
    if not isinstance(op, _ALL):
        return [f"the NPU has no form for {op.title.split()[0]}"]
    return CHECKS.reasons(op, chip)


def _tensors(op: Op) -> list[Value]:
    """Every operand and result but weights, biases and fill values."""
    others = {id(getattr(op, name, None)) for name in ("weights", "bias", "value")}
    return [v for v in (*op.inputs_present, *op.results) if id(v) not in others]


# Tensors --------------------------------------------------------------------------------------


@CHECKS.requires(*_ALL, first=True)
def computed(op: Op, chip: Chip) -> str | None:
    """Inputs must be computed, not constant."""
    found = next((v for v in _tensors(op) if v.is_constant), None)
    return f"{found.name!r} is constant" if found else None


@CHECKS.requires(*_ALL, first=True)
def eight_bit(op: Op, chip: Chip) -> str | None:
    """Inputs and outputs must be uint8 or int8."""
    found = next((v for v in _tensors(op) if v.type.dtype not in _BYTES), None)
    return f"{found.name!r} is {found.type.dtype.value}" if found else None


@CHECKS.requires(*_ALL, first=True)
def one_image(op: Op, chip: Chip) -> str | None:
    """Tensors must hold one image."""
    found = next((v for v in _tensors(op) if math.prod(v.shape[:-3]) != 1), None)
    return f"{found.name!r} has a batch of {found.shape[:-3]}" if found else None


@CHECKS.requires(*_ALL, first=True)
def one_scale(op: Op, chip: Chip) -> str | None:
    """Every tensor, weights too, must have one scale."""
    for value in (*op.inputs_present, *op.results):
        scales = value.type.quantization.scales if value.type.quantization else ()
        if len(set(scales)) > 1:
            return f"{value.name!r} has {len(set(scales))}"
    return None


@CHECKS.requires(*_MOVES)
def quantized_alike(op: Any, chip: Chip) -> str | None:
    """Where bytes only move, inputs and outputs must have one quantisation."""
    first = op.results[0]
    for value in (*op.inputs_present, *op.results):
        mine, other = value.type, first.type
        if (mine.scale, mine.zero_point, mine.dtype) != (
            other.scale, other.zero_point, other.dtype,
        ):  # fmt: skip
            return f"{value.name!r} is quantised otherwise than {first.name!r}"
    return None


def _too_wide(value: Value) -> bool:
    """Whether layout jobs of the TP cores cannot count a tensor's rows or columns."""
    _, height, width, channels = (1, 1, 1, 1, *value.shape)[-4:]
    if height * width == 1 or channels == 1:
        return max(height, width) > _TP_MAX
    return width * channels > _TP_MAX or height > _TP_MAX


def _across_channels(op: Any) -> bool:
    """Whether a join or a split works within planes."""
    whole = op.output if isinstance(op, ops.Concatenation) else op.input
    return math.prod(whole.shape[: op.axis]) != 1


@CHECKS.requires(*_CONVOLUTIONS, ops.Concatenation, ops.Split, ops.Pad, ops.Transpose)
def countable_rows(op: Op, chip: Chip) -> str | None:
    """Rows that change their layout must have at most 65535 bytes, maps that many rows."""
    if isinstance(op, ops.Concatenation | ops.Split) and not _across_channels(op):
        return None
    found = next((v for v in _tensors(op) if _too_wide(v)), None)
    return f"{found.name!r} is {list(found.shape)}" if found else None


# Weighted operations --------------------------------------------------------------------------


@CHECKS.requires(*_WEIGHTED, first=True)
def constant_weights(op: Any, chip: Chip) -> str | None:
    """Weights must be constant bytes, the bias constant int32."""
    kind = op.weights.type.dtype
    if kind not in _BYTES or op.weights.data is None:
        return f"weights are {kind.value}{'' if op.weights.is_constant else ', computed'}"
    if op.bias is not None and (op.bias.data is None or op.bias.type.dtype is not DType.INT32):
        return f"bias is {op.bias.type.dtype.value}{'' if op.bias.is_constant else ', computed'}"
    return None


@CHECKS.requires(*_WEIGHTED, *_SUMS)
def no_upper_clamp(op: Any, chip: Chip) -> str | None:
    """An activation must let through up to the largest value of its type."""
    _, high = exact_nn.integer_range(op)
    largest = op.output.type.dtype.range[1]
    return f"clamps at {high} of {largest}" if high < largest else None


@CHECKS.requires(*_WEIGHTED, *_SUMS)
def clamp_at_zero(op: Any, chip: Chip) -> str | None:
    """A lower clamp must be at the zero point."""
    low, _ = exact_nn.integer_range(op)
    kind = op.output.type
    if low <= kind.dtype.range[0] or low == kind.zero_point:
        return None
    return f"clamps from {low}, the zero point is {kind.zero_point}"


@CHECKS.requires(*_CONVOLUTIONS)
def no_dilation(op: Any, chip: Chip) -> str | None:
    """Dilation must be 1 in both directions."""
    return None if op.dilation == (1, 1) else f"dilation is {op.dilation}"


@CHECKS.requires(*_CONVOLUTIONS)
def stride(op: Any, chip: Chip) -> str | None:
    """Strides must be 1 or 2, the same in both directions."""
    return None if op.stride in ((1, 1), (2, 2)) else f"stride is {op.stride}"


@CHECKS.requires(ops.Conv2D)
def one_group(op: Any, chip: Chip) -> str | None:
    """Weights must have as many channels as the input."""
    mine, wanted = op.weights.shape[3], op.input.shape[3]
    return None if mine == wanted else f"they have {mine}, it has {wanted}"


@CHECKS.requires(*_CONVOLUTIONS)
def map_size(op: Any, chip: Chip) -> str | None:
    """Maps must be at most 8191 high and wide."""
    factor = 2 if op.stride == (2, 2) and not exact_nn.uses_blocks(op) else 1
    sizes = {"output": [factor * n for n in op.output.shape[1:3]], "input": op.input.shape[1:3]}
    for what, (height, width) in sizes.items():
        if max(height, width) > exact_nn.SIZE_MAX:
            return f"{what} counts as {height}x{width}"
    return None


@CHECKS.requires(*_CONVOLUTIONS)
def planes(op: Any, chip: Chip) -> str | None:
    """Inputs and outputs must have at most 16383 planes."""
    most = max(op.input.shape[3] * (4 if exact_nn.uses_blocks(op) else 1), op.output.shape[3])
    return None if most <= _PLANES_MAX else f"{most} planes"


@CHECKS.requires(*_CONVOLUTIONS)
def kernel_size(op: Any, chip: Chip) -> str | None:
    """Kernels must be no larger than the chip's (11x11 or 15x15; strided ones twice that)."""
    blocks = exact_nn.uses_blocks(op)
    rows, columns = (-(-k // 2) if blocks else k for k in op.weights.shape[1:3])
    limit = chip.kernel_size_max
    if max(rows, columns) <= limit:
        return None
    return f"kernel counts as {rows}x{columns}, the chip's largest is {limit}x{limit}"


@CHECKS.requires(*_CONVOLUTIONS)
def padding(op: Any, chip: Chip) -> str | None:
    """Padding above and left must be within the offset's bits (8 or 16)."""
    most = 0 if exact_nn.uses_blocks(op) else max(op.padding.top, op.padding.left)
    limit = _OFFSET.get(chip.image_offset_bits, 4)
    return None if most <= limit else f"pads by {most}, the chip's limit is {limit}"


@CHECKS.requires(ops.FullyConnected)
def one_row(op: Any, chip: Chip) -> str | None:
    """A fully connected layer must have one row of inputs and one of outputs."""
    outputs, inputs = op.weights.shape[0], op.weights.shape[-1]
    if math.prod(op.input.shape) == inputs and math.prod(op.output.shape) == outputs:
        return None
    return f"input is {list(op.input.shape)}, a row has {inputs}"


@CHECKS.requires(ops.FullyConnected)
def matrix_size(op: Any, chip: Chip) -> str | None:
    """A fully connected layer must have at most 16383 outputs, and inputs that fold so far."""
    depth, outputs = fc_factors(op.weights.shape[-1], chip.kernel_size_max)[2], op.weights.shape[0]
    if max(depth, outputs) <= _PLANES_MAX:
        return None
    return f"{outputs} outputs, {depth} planes of inputs"


@CHECKS.requires(*_SUMS)
def same_shape(op: Any, chip: Chip) -> str | None:
    """Both operands of a sum must have the result's shape."""
    if op.a.shape == op.b.shape == op.output.shape:
        return None
    return f"shapes are {list(op.a.shape)} and {list(op.b.shape)}"


@CHECKS.requires(*_SUMS)
def sum_shape(op: Any, chip: Chip) -> str | None:
    """The elements of a sum must fold into images that the cores can count."""
    count = math.prod(op.a.shape)
    return None if exact_nn.sum_shape(count, chip) is not None else f"{count} elements"


# Moves ----------------------------------------------------------------------------------------


@CHECKS.requires(ops.Concatenation)
def no_activation(op: Any, chip: Chip) -> str | None:
    """A concatenation must have no activation."""
    kind = op.activation.value
    return None if kind == "none" else f"activation is {kind.upper()}"


@CHECKS.requires(ops.Concatenation, ops.Split)
def axis(op: Any, chip: Chip) -> str | None:
    """The axis must be the channels of four axes, or the outermost one."""
    whole = op.output if isinstance(op, ops.Concatenation) else op.input
    last = op.axis == len(whole.shape) - 1 and len(whole.shape) == 4
    return None if last or not _across_channels(op) else f"axis is {op.axis}"


@CHECKS.requires(ops.Pad)
def pad_value(op: Any, chip: Chip) -> str | None:
    """Padding must be with the zero point."""
    return None if op.value is None else "it has a value of its own"


@CHECKS.requires(ops.Pad)
def pad_axes(op: Any, chip: Chip) -> str | None:
    """Padding must be of height, width and channels."""
    if len(op.before) < 3:
        return f"the tensor has {len(op.before)} axes"
    return "it pads the batch" if any((*op.before[:-3], *op.after[:-3])) else None


@CHECKS.requires(ops.Transpose)
def layout_permutation(op: Any, chip: Chip) -> str | None:
    """A transposition must be (0, 3, 1, 2) or (0, 2, 3, 1)."""
    return None if op.perm in ((0, 3, 1, 2), (0, 2, 3, 1)) else f"it is {op.perm}"
