"""Helpers of the operations' `infer`, `check`, `missing_kernel` and `compute`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.ir.graph import Op, Value
from teflon.ir.quantized import activation_range, real_bounds
from teflon.ir.types import Activation, Array, DType, TensorType

QUANTISED = (DType.UINT8, DType.INT8, DType.INT16)
EIGHT_BIT = (DType.UINT8, DType.INT8)


def describe(value: Value) -> str:
    """Return how messages name a value: `'x' is u8[1, 8, 8, 3]`."""
    return f"{value.name!r} is {value.type.dtype.value}{list(value.shape)}"


def need_rank(value: Value, rank: int) -> None:
    """Raise ValueError unless a value has this many dimensions."""
    if value.type.rank != rank:
        raise ValueError(f"{describe(value)}, must have {rank} dimensions")


def need_axis(axis: int, rank: int) -> None:
    """Raise ValueError unless an axis is one of so many dimensions."""
    if not 0 <= axis < rank:
        raise ValueError(f"axis is {axis}, must be within 0..{rank - 1}")


def need_axes(axes: Sequence[int], rank: int) -> None:
    """Raise ValueError unless axes are of so many dimensions, and each named once."""
    for axis in axes:
        need_axis(axis, rank)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axes are {list(axes)}, must be named once each")


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return a shape less one of its axes."""
    return shape[:axis] + shape[axis + 1 :]


def broadcast(a: Value, b: Value) -> tuple[int, ...]:
    """Return the shape of an element-wise operation; raises ValueError where there is none."""
    try:
        return tuple(np.broadcast_shapes(a.shape, b.shape))
    except ValueError:
        raise ValueError(f"{describe(a)} and {describe(b)}, must broadcast") from None


def same_dtype(first: Value, *others: Value) -> list[str]:
    """Return a sentence for each value whose element type is not the first one's."""
    want = first.type.dtype
    return [
        f"{v.name!r} is {v.type.dtype.value}, must be {want.value} as {first.name!r} is"
        for v in others
        if v.type.dtype is not want
    ]


def element_type(value: Value, *kinds: DType) -> list[str]:
    """Return a sentence for a value whose element type is none of these."""
    if value.type.dtype in kinds:
        return []
    *others, last = (kind.value for kind in kinds)
    known = f"{', '.join(others)} or {last}" if others else last
    return [f"{value.name!r} is {value.type.dtype.value}, must be {known}"]


def quantised(*values: Value) -> list[str]:
    """Return a sentence for each 8-bit value without per-tensor quantisation."""
    problems = []
    for value in values:
        if value.type.dtype not in EIGHT_BIT:
            continue
        if value.type.quantization is None:
            problems.append(f"{value.name!r} has no quantisation, must have a scale")
        elif value.type.quantization.per_axis:
            problems.append(f"{value.name!r} is quantised per axis, must be per tensor")
        problems += usable_scales(value)
    return problems


def usable_scales(value: Value) -> list[str]:
    """Return a sentence for a value with a scale that is not positive and finite."""
    scales = value.type.quantization.scales if value.type.quantization else ()
    bad = [s for s in scales if not (math.isfinite(s) and s > 0)]
    if not bad:
        return []
    return [f"{value.name!r} has scale {bad[0]:g}, must be above 0 and finite"]


def same_quantisation(first: Value, *others: Value) -> list[str]:
    """Return a sentence for each value whose quantisation is not the first one's."""
    if first.type.dtype not in QUANTISED:
        return []
    want = (first.type.scale, first.type.zero_point)
    return [
        f"{v.name!r} has scale {v.type.scale:g} and zero point {v.type.zero_point},"
        f" must have {want[0]:g} and {want[1]} as {first.name!r} has"
        for v in others
        if (v.type.scale, v.type.zero_point) != want
    ]


def per_axis_problems(weights: Value, axis: int) -> list[str]:
    """Return what is wrong with weights' quantisation along the axis of the outputs."""
    quantization = weights.type.quantization
    if quantization is None:
        missing = weights.type.dtype in EIGHT_BIT
        return [f"{weights.name!r} has no quantisation, must have a scale"] if missing else []
    if unusable := usable_scales(weights):
        return unusable
    if quantization.axis is None or axis >= weights.type.rank:
        return []
    if quantization.axis != axis:
        return [f"{weights.name!r} is quantised along axis {quantization.axis}, must be {axis}"]
    count = len(quantization.scales)
    if count != weights.shape[axis]:
        return [f"{weights.name!r} has {count} scales, must have {weights.shape[axis]}"]
    return []


def at_least(what: str, values: Sequence[int], least: int) -> list[str]:
    """Return a sentence where any of an attribute's numbers is too small."""
    if all(v >= least for v in values):
        return []
    return [f"{what} is {list(values)}, must be {least} or more"]


def clamp_problems(
    activation: Activation, clamp: tuple[int, int] | None, type: TensorType
) -> list[str]:
    """Return what is wrong with an integer clamp beside an activation."""
    if clamp is None:
        return []
    if type.dtype not in QUANTISED:
        return [f"clamp is set and the result is {type.dtype.value}, must be u8, i8 or i16"]
    problems = []
    least, most = type.dtype.range
    if not least <= clamp[0] <= clamp[1] <= most:
        problems.append(f"clamp is {clamp}, must be ordered and within {least}..{most}")
    if activation is not Activation.NONE:
        problems.append(f"activation is {activation.value}, must be none beside a clamp")
    return problems


def integer_clamp(
    activation: Activation, clamp: tuple[int, int] | None, type: TensorType
) -> tuple[int, int]:
    """Return the range of an output's quantised values; `no_clamp` was asked before."""
    return activation_range(activation, type) if clamp is None else clamp


def quantise(x: Array, type: TensorType, clamp: tuple[int, int]) -> Array:
    """Return integers less the zero point as a type's quantised values within a clamp."""
    return np.asarray(np.clip(x + type.zero_point, *clamp), type.dtype.numpy)


def clamp_real(x: Array, activation: Activation) -> Array:
    """Return numbers (float32 or plain integers) limited by an activation.

    `no_clamp` was asked before.
    """
    low, high = real_bounds(activation)
    if low is not None:
        x = np.maximum(x, x.dtype.type(low))
    if high is not None:
        x = np.minimum(x, x.dtype.type(high))
    return x


def no_clamp(activation: Activation) -> str:
    """Return why there is no kernel for an activation; "" for one that is a clamp."""
    try:
        real_bounds(activation)
    except ValueError as error:
        return str(error)
    return ""


def no_kernel(*values: Value | None) -> str:
    """Return why there is none: a combination of element types that is not computed."""
    types = ", ".join(v.type.dtype.value for v in values if v is not None)
    return f"no kernel for element types {types}"


def outside(value: Value, *kinds: DType) -> str:
    """Return `no_kernel` for a value whose element type is none of these; "" for the others."""
    return "" if value.type.dtype in kinds else no_kernel(value)


def unsupported(op: Op, reason: str) -> UnsupportedOperation:
    """Return the error for contents of operands that an operation has no result for."""
    return UnsupportedOperation(op.title, [reason])


def present(array: Array | None) -> Array:
    """Return the value of an operand that is not optional."""
    if array is None:
        raise TypeError("an operand that is not optional has no value")
    return array
