"""What the family's NPUs can run: one small function for each rule, its text is the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Op, Value
from teflon.ir.types import Activation, DType
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.emit import MESA

_FC_MESA_MAX = 1280
_PAD_MESA_MAX = 2
_SIX = 6.0


def reasons(op: Op, chip: Chip, strategy: str) -> list[str]:
    """Return why an operation cannot run on a chip; empty where it can."""
    if strategy == MESA:
        check = _MESA.get(type(op))
        return check(op) if check else [f"Mesa's driver has no form for {op.title.split()[0]}"]
    from teflon_etnaviv.checks_exact import reasons as exact_reasons

    return exact_reasons(op, chip)


def differing_scales(op: Op) -> list[str]:
    """Per-axis quantisation with scales that differ: one layer has one scale."""
    return [
        f"{v.name!r} has {len(set(v.type.quantization.scales))} scales along an axis, must have one"
        for v in (*op.inputs_present, *op.results)
        if v.type.quantization and len(set(v.type.quantization.scales)) > 1
    ]


def relu6_is_the_range(op: Any) -> list[str]:
    """A fused RELU6 is only right where the output's largest value means at most 6."""
    if op.activation is not Activation.RELU6:
        return []
    kind = op.output.type
    if kind.dtype not in (DType.INT8, DType.UINT8):
        return [f"RELU6 on {kind.dtype.value}, must be u8 or i8"]
    largest = (kind.dtype.range[1] - kind.zero_point) * kind.scale
    if largest <= _SIX:
        return []
    return [f"RELU6 would have to clamp at 6, the output reaches {largest:.4g}"]


def _mesa_convolution(op: Any) -> list[str]:
    found = differing_scales(op)
    if op.dilation != (1, 1):
        found.append(f"dilation is {op.dilation}, must be 1")
    known = (Activation.NONE, Activation.RELU, Activation.RELU6)
    if op.activation not in known:
        found.append(f"activation is {op.activation.value}, must be none, relu or relu6")
    if op.stride not in ((1, 1), (2, 2)):
        found.append(f"stride is {op.stride}, must be 1 or 2 in both directions")
    if op.weights.type.dtype not in (DType.INT8, DType.UINT8) or op.weights.data is None:
        found.append("weights must be constant bytes")
    return found + relu6_is_the_range(op)


def _mesa_addition(op: Any) -> list[str]:
    constants = [v for v in (op.a, op.b) if v.is_constant]
    return [f"{v.name!r} is a constant, must be computed" for v in constants]


def _mesa_axis(op: Any) -> list[str]:
    value: Value = op.results[0]
    return [] if op.axis == 3 and value.type.rank == 4 else [f"axis is {op.axis}, must be 3 of 4"]


def _mesa_pad(op: Any) -> list[str]:
    amounts = (*op.before, *op.after)
    if op.value is not None:
        return ["pads with a value of its own, must pad with the zero point"]
    if len(op.before) != 4 or op.before[0] or op.after[0]:
        return ["pads the batch, must pad height, width and channels only"]
    if max(amounts) > _PAD_MESA_MAX:
        return [f"pads by {max(amounts)}, must be at most {_PAD_MESA_MAX}"]
    return []


def _mesa_fully_connected(op: Any) -> list[str]:
    found = []
    if op.input.type.dtype not in (DType.INT8, DType.UINT8):
        found.append(f"input is {op.input.type.dtype.value}, must be u8 or i8")
    if op.input.shape[-1] >= _FC_MESA_MAX:
        found.append(f"has {op.input.shape[-1]} inputs, must be below {_FC_MESA_MAX}")
    return found


def _mesa_transpose(op: Any) -> list[str]:
    if op.perm in ((0, 3, 1, 2), (0, 2, 3, 1)):
        return []
    return [f"permutation is {op.perm}, must be (0, 3, 1, 2) or (0, 2, 3, 1)"]


def _always(op: Any) -> list[str]:
    return []


# Ref: docs/hardware/etnaviv.md section 10.1
_MESA: dict[type[Op], Callable[[Any], list[str]]] = {
    ops.Conv2D: _mesa_convolution,
    ops.DepthwiseConv2D: _mesa_convolution,
    ops.Add: _mesa_addition,
    ops.Sub: _mesa_addition,
    ops.Concatenation: _mesa_axis,
    ops.Split: _mesa_axis,
    ops.Pad: _mesa_pad,
    ops.FullyConnected: _mesa_fully_connected,
    ops.Reshape: _always,
    ops.Relu: _always,
    ops.Abs: _always,
    ops.Logistic: _always,
    ops.Transpose: _mesa_transpose,
}
