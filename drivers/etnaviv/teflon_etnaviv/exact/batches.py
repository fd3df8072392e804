"""Batches: an operation on several images is repeated for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Op, Value
from teflon.ir.types import TensorType

REPEATED = (
    ops.Conv2D, ops.DepthwiseConv2D, ops.TransposeConv, ops.AveragePool2D, ops.MaxPool2D, ops.Mean,
    ops.ReduceMax, ops.Add, ops.Sub, ops.Pad, ops.Relu, ops.Abs, ops.Logistic, ops.Quantize,
    ops.ResizeBilinear, ops.Div, ops.Elu, ops.Exp, ops.Gelu, ops.HardSwish, ops.LeakyRelu,
    ops.Log, ops.Maximum, ops.Minimum, ops.Mul, ops.Neg, ops.Prelu, ops.Relu0To1, ops.Relu6,
    ops.ReluN1To1, ops.Rsqrt, ops.Sqrt, ops.Square, ops.SquaredDifference, ops.Table, ops.Tanh,
)  # fmt: skip
"""Operations that treat each image alone, whose attributes do not depend on how many there are."""
_CONSTANTS = ("weights", "bias", "value")
_PAIR = ("a", "b", "alpha")
"""Fields of operands of which one may be a constant, which is the same for all images."""


def batch(op: Op) -> int:
    """Return for how many images an operation is repeated; 1 where it is not."""
    if not isinstance(op, REPEATED):
        return 1
    tensors = [value for _, value in _tensors(op)]
    found = {value.shape[0] if value.shape and not value.is_constant else 1 for value in tensors}
    if len(found) != 1 or tensors[0].type.rank != 4 or _joins_images(op):
        return 1
    return max(*found, 1)


def _joins_images(op: Op) -> bool:
    """Whether an operation looks at several images or makes others."""
    if isinstance(op, ops.Pad):
        return bool(op.before[0] or op.after[0])
    return isinstance(op, ops.Mean | ops.ReduceMax) and 0 in op.axes


def _tensors(op: Op) -> Iterator[tuple[str, Value]]:
    """Yield the operands and results that hold images, with the names of their fields."""
    for field in dataclasses.fields(op):
        value = getattr(op, field.name)
        if field.name in _CONSTANTS:
            continue
        for each in value if isinstance(value, tuple) else (value,):
            shared = field.name in _PAIR and isinstance(each, Value) and each.is_constant
            if isinstance(each, Value) and not shared:
                yield field.name, each


def image(value: Value, number: int) -> Value:
    """Return what stands for one image of a value."""
    kind = value.type
    shape = (1, *kind.shape[1:])
    return Value(f"{value.name}[{number}]", TensorType(kind.dtype, shape, kind.quantization))


def single(op: Op) -> Op:
    """Return an operation on one of several images; itself where it is not repeated."""
    return op if batch(op) == 1 else on(op, lambda value: image(value, 0))


def on(op: Op, of: Callable[[Value], Value]) -> Op:
    """Return an operation on other values than those that hold images."""
    changes: dict[str, Any] = {"location": op.where}
    for name in dict.fromkeys(name for name, _ in _tensors(op)):
        value = getattr(op, name)
        changes[name] = tuple(map(of, value)) if isinstance(value, tuple) else of(value)
    return dataclasses.replace(op, **changes)
