"""The jobs of a layer: each computes some output channels, with one scale for all weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from teflon.ir.graph import Value
from teflon.ir.ops import Conv2D, DepthwiseConv2D
from teflon.ir.types import DType, Quantization, TensorType
from teflon_etnaviv.exact.grouping.kernels import Order, Weighted, kernels_of
from teflon_etnaviv.exact.grouping.rounding import Rounded

Made = TypeVar("Made", bound=Weighted)


@dataclass(frozen=True, eq=False)
class Group:
    """Output channels that one job computes, in the order of their planes, and their kernels."""

    channels: Order
    kernels: Rounded


@dataclass(frozen=True, eq=False)
class Piece(Generic[Made]):
    """An operation that computes some output channels: the planes from `first` on.

    Its input is the whole input, of a depthwise layer the planes from `first` on.
    """

    op: Made
    first: int


def pieces(op: Made, groups: Sequence[Group], inputs: Order | None) -> Iterator[Piece[Made]]:
    """Yield an operation for each group, in the order of their planes; without groups the operation
    itself.

    inputs: the channel that lies in each plane of the input, None where that is its number.
    """
    if not groups:
        yield Piece(op, 0)
    first = 0
    for group in groups:
        yield Piece(_piece(op, group.channels, group.kernels, inputs), first)
        first += len(group.channels)


def _piece(op: Made, channels: Order, kernels: Rounded, inputs: Order | None) -> Made:
    count = len(channels)
    data: npt.NDArray[Any] = kernels.bytes_
    changes: dict[str, Any] = {}
    shape = op.weights.shape
    if isinstance(op, DepthwiseConv2D):
        data = data.T.reshape(*shape[:3], count)
        if op.input.shape[3] > 1:
            changes["input"] = _part(op.input, count)
    else:
        data = data.reshape(count, *shape[1:])
        data = data if inputs is None else data[..., inputs]
    kind = Quantization.per_tensor(kernels.scale, kernels.zero)
    weights = Value(op.weights.name, TensorType(DType.UINT8, data.shape, kind), data)
    bias = Value(f"{op.where} bias", TensorType(DType.INT32, (count,)), kernels.bias)
    output = _part(op.output, count)
    return replace(op, **changes, weights=weights, bias=bias, output=output, location=op.where)


def _part(value: Value, channels: int) -> Value:
    """Return what stands for some channels of a value."""
    shape = (*value.shape[:-1], channels)
    return Value(value.name, replace(value.type, shape=shape))


def spread(op: DepthwiseConv2D) -> Conv2D:
    """Return a depthwise convolution with several kernels for each channel as a convolution."""
    found = kernels_of(op)
    channels, inputs = found.channels, op.input.shape[3]
    rows, columns = op.weights.shape[1:3]
    signed = op.weights.type.dtype is DType.INT8
    data = np.empty((channels, rows * columns, inputs), np.uint8)
    data[...] = np.uint8(found.zero)
    numbers = np.arange(channels)
    data[numbers, :, numbers // (channels // inputs)] = found.bytes_
    data = (data ^ 0x80).view(np.int8) if signed else data
    old = op.weights.type
    kind = old.quantization and replace(
        old.quantization, axis=None if old.quantization.axis is None else 0
    )
    shape = (channels, rows, columns, inputs)
    weights = Value(op.weights.name, TensorType(old.dtype, shape, kind), data.reshape(shape))
    return Conv2D(
        input=op.input, weights=weights, bias=op.bias, output=op.output, stride=op.stride,
        dilation=op.dilation, padding=op.padding, activation=op.activation, clamp=op.clamp,
        location=op.where, index=op.index,
    )  # fmt: skip
