"""What strategy `exact` accepts: everything that it computes within one step of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Op, Value
from teflon.ir.types import DType
from teflon_etnaviv import exact_nn
from teflon_etnaviv.checks import differing_scales
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn import fc_factors

_BYTES = (DType.INT8, DType.UINT8)
_PLANES_MAX = (1 << 14) - 1
_TP_MAX = (1 << 16) - 1
_OFFSET = {4: 8, 5: 16}  # bits of the first tap's offset -> largest padding


def reasons(op: Op, chip: Chip) -> list[str]:
    """Return why an operation cannot run on a chip; empty where it can."""
    check = _CHECKS.get(type(op))
    if check is None:
        return [f"the NPU has no form for {op.title.split()[0]}"]
    return [*_tensor_reasons(op), *differing_scales(op)] or check(op, chip)


def _tensor_reasons(op: Op) -> list[str]:
    """Rules for every tensor of every operation; weights and biases have rules of their own."""
    weights = {id(getattr(op, name, None)) for name in ("weights", "bias", "value")}
    tensors = [v for v in (*op.inputs_present, *op.results) if id(v) not in weights]
    found = []
    for value in tensors:
        if value.is_constant:
            found.append(f"{value.name!r} is a constant, must be computed")
        if value.type.dtype not in _BYTES:
            found.append(f"{value.name!r} is {value.type.dtype.value}, must be u8 or i8")
        elif math.prod(value.shape[:-3]) != 1:
            found.append(f"{value.name!r} has a batch of {value.shape[:-3]}, must be one image")
    return found


def _layout_reasons(*values: Value) -> list[str]:
    """Tensors that are brought from rows into planes, or back, by the TP cores."""
    return [
        f"{v.name!r} is {list(v.shape)}, rows beyond {_TP_MAX} bytes"
        for v in values
        if _too_wide(v)
    ]


def _too_wide(value: Value) -> bool:
    """Whether layout jobs of the TP cores cannot count a tensor's rows or columns."""
    _, height, width, channels = (1, 1, 1, 1, *value.shape)[-4:]
    if height * width == 1 or channels == 1:
        return max(height, width) > _TP_MAX
    return width * channels > _TP_MAX or height > _TP_MAX


def _weight_reasons(op: Any) -> list[str]:
    kind = op.weights.type.dtype
    if kind not in _BYTES or op.weights.data is None:
        return [f"weights are {kind.value}, must be constant bytes"]
    if op.bias is not None and (op.bias.data is None or op.bias.type.dtype is not DType.INT32):
        return ["bias must be constant 32-bit integers"]
    return []


def _size_reasons(height: int, width: int, what: str) -> list[str]:
    limit = exact_nn.SIZE_MAX
    if max(height, width) <= limit:
        return []
    return [f"{what} is {height}x{width}, must be at most {limit} each way"]


def _convolution(op: Any, chip: Chip) -> list[str]:
    found = _weight_reasons(op) + exact_nn.range_reasons(op)
    if op.dilation != (1, 1):
        found.append(f"dilation is {op.dilation}, must be 1")
    if op.stride not in ((1, 1), (2, 2)):
        found.append(f"stride is {op.stride}, must be 1 or 2 in both directions")
    channels = op.weights.shape[3]
    if isinstance(op, ops.Conv2D) and channels != op.input.shape[3]:
        found.append(f"weights have {channels} channels, must be the input's {op.input.shape[3]}")
    return found + _layout_reasons(op.input, op.output) + _convolution_limits(op, chip)


def _convolution_limits(op: Any, chip: Chip) -> list[str]:
    blocks = exact_nn.uses_blocks(op)
    factor = 2 if op.stride == (2, 2) and not blocks else 1
    _, out_height, out_width, out_channels = op.output.shape
    found = _size_reasons(out_height * factor, out_width * factor, "output")
    found += _size_reasons(op.input.shape[1], op.input.shape[2], "input")
    planes = op.input.shape[3] * (4 if blocks else 1)
    if max(planes, out_channels) > _PLANES_MAX:
        found.append(f"has {max(planes, out_channels)} planes, must be at most {_PLANES_MAX}")
    rows, columns = (-(-k // 2) if blocks else k for k in op.weights.shape[1:3])
    if max(rows, columns) > chip.kernel_size_max:
        limit = chip.kernel_size_max
        found.append(f"kernel is {rows}x{columns}, must be at most {limit} each way")
    most = 0 if blocks else max(op.padding.top, op.padding.left)
    if most > (limit := _OFFSET.get(chip.image_offset_bits, 4)):
        found.append(f"pads by {most} before the image, must be at most {limit}")
    return found


def _fully_connected(op: Any, chip: Chip) -> list[str]:
    found = _weight_reasons(op) + exact_nn.range_reasons(op)
    inputs, outputs = op.weights.shape[-1], op.weights.shape[0]
    if math.prod(op.input.shape) != inputs or math.prod(op.output.shape) != outputs:
        found.append(f"input is {list(op.input.shape)}, must be one row of {inputs}")
    planes = fc_factors(inputs, chip.kernel_size_max)[2]
    if max(planes, outputs) > _PLANES_MAX:
        found.append(f"has {planes} planes and {outputs} outputs, must be at most {_PLANES_MAX}")
    return found


def _addition(op: Any, chip: Chip) -> list[str]:
    found = exact_nn.range_reasons(op)
    if not op.a.shape == op.b.shape == op.output.shape:
        found.append(f"shapes are {op.a.shape} and {op.b.shape}, must be equal")
    elif exact_nn.sum_shape(math.prod(op.a.shape), chip) is None:
        found.append(f"{math.prod(op.a.shape)} elements cannot be cut into images, must be")
    return found


def _quantised_alike(op: Any) -> list[str]:
    """Moved bytes keep their meaning only where both sides have one quantisation."""
    first = op.results[0].type
    for value in (*op.inputs_present, *op.results):
        kind = value.type
        if (kind.scale, kind.zero_point, kind.dtype) != (
            first.scale, first.zero_point, first.dtype,
        ):  # fmt: skip
            return [f"{value.name!r} is quantised otherwise than {op.results[0].name!r}"]
    return []


def _joined(op: Any, chip: Chip) -> list[str]:
    join = isinstance(op, ops.Concatenation)
    whole = op.output if join else op.input
    found = [] if join else _quantised_alike(op)
    if getattr(op, "activation", None) is not None and op.activation.value != "none":
        found.append(f"activation is {op.activation.value}, must be none")
    last = op.axis == len(whole.shape) - 1 and len(whole.shape) == 4
    if not last and math.prod(whole.shape[: op.axis]) != 1:
        found.append(f"axis is {op.axis}, must be the channels or the outermost axis")
    in_planes = math.prod(whole.shape[: op.axis]) != 1
    return found + (_layout_reasons(*op.inputs_present, *op.results) if in_planes else [])


def _moved(op: Any, chip: Chip) -> list[str]:
    return _quantised_alike(op)


def _pad(op: Any, chip: Chip) -> list[str]:
    found = _quantised_alike(op) if op.value is None else ["pads with a value of its own"]
    if len(op.before) > 3 and any((*op.before[:-3], *op.after[:-3])):
        found.append("pads the batch, must pad height, width and channels only")
    if len(op.before) < 3:
        found.append(f"pads a tensor of rank {len(op.before)}, must be at least 3")
    return found + _layout_reasons(op.input, op.output)


def _transpose(op: Any, chip: Chip) -> list[str]:
    if op.perm not in ((0, 3, 1, 2), (0, 2, 3, 1)):
        return [f"permutation is {op.perm}, must be (0, 3, 1, 2) or (0, 2, 3, 1)"]
    return _quantised_alike(op) + _layout_reasons(op.input, op.output)


def _table(op: Any, chip: Chip) -> list[str]:
    return []


_CHECKS: dict[type[Op], Callable[[Any, Chip], list[str]]] = {
    ops.Conv2D: _convolution,
    ops.DepthwiseConv2D: _convolution,
    ops.Add: _addition,
    ops.Sub: _addition,
    ops.Concatenation: _joined,
    ops.Split: _joined,
    ops.Pad: _pad,
    ops.FullyConnected: _fully_connected,
    ops.Reshape: _moved,
    ops.Relu: _table,
    ops.Abs: _table,
    ops.Logistic: _table,
    ops.Quantize: _table,
    ops.Transpose: _transpose,
}
