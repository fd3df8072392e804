"""Sums and products with a constant for each channel: depthwise 1x1 convolutions."""

from __future__ import annotations

import dataclasses

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import Add, DepthwiseConv2D, Mul, Sub
from teflon.ir.types import Array, DType, Quantization, TensorType

WithChannels = Add | Mul | Sub

_WEIGHT = 255
"""The weight of a sum's tensor: the larger it is, the finer are the biases."""


def pair(op: WithChannels) -> tuple[Value, Value] | None:
    """Return the tensor and the constant of an operation whose constant is the same for each of the
    tensor's first axes, if it is one.
    """
    for x, constant in ((op.a, op.b), (op.b, op.a)):
        if x.is_constant or not constant.is_constant or x.type.size != op.output.type.size:
            continue
        axes = constant.shape
        while axes[:1] == (1,):
            axes = axes[1:]
        if axes and x.shape[-len(axes) :] == axes:
            return x, constant
    return None


def _viewed(value: Value, count: int) -> Value:
    """Return a value whose last axis has so many elements, of the same bytes in rows; the value
    itself where it is one of four axes.
    """
    if value.type.rank == 4 and value.shape[3] == count:
        return value
    shape = (1, value.type.size // count, 1, count)
    return Value(f"{value.name} (viewed)", dataclasses.replace(value.type, shape=shape))


def convolution(op: WithChannels) -> DepthwiseConv2D:
    """Return the convolution that computes a sum or product with a number for each channel, or for
    each element of several axes, which are channels then: of operands with the same bytes in rows.

    A product's numbers are its weights. A sum's are its biases, in 255ths of the tensor's step.
    Raises OverflowError for a bias beyond 32 bits.
    """
    found = pair(op)
    assert found is not None, "a rule asks for it"
    x, constant = found
    numbers = constant.data
    assert numbers is not None
    numbers = numbers.reshape(-1)
    if isinstance(op, Mul):
        weights, bias = _weights(x, numbers, constant.type), None
    else:
        weights, bias = _sum(op, x, numbers.astype(np.int64) - constant.type.zero_point, constant)
    return DepthwiseConv2D(
        input=_viewed(x, numbers.size),
        weights=weights,
        bias=bias,
        output=_viewed(op.output, numbers.size),
        activation=op.activation,
        clamp=op.clamp,
        location=op.location or op.where,
        index=op.index,
    )


def _weights(x: Value, numbers: Array, kind: TensorType) -> Value:
    shape = (1, 1, 1, len(numbers))
    quantization = Quantization((kind.scale,), (kind.zero_point,))
    return Value("weights", TensorType(kind.dtype, shape, quantization), numbers.reshape(shape))


def _sum(op: Add | Sub, x: Value, centred: Array, constant: Value) -> tuple[Value, Value]:
    """Return weights of 255 and biases; of -255 where the tensor is what a SUB takes away."""
    negative = isinstance(op, Sub) and op.b is x
    zero, weight = (_WEIGHT, 0) if negative else (0, _WEIGHT)
    unsigned = Quantization((1 / _WEIGHT,), (zero,))
    data = np.full((1, 1, 1, len(centred)), weight, np.uint8)
    weights = Value("weights", TensorType(DType.UINT8, data.shape, unsigned), data)
    unit = x.type.scale / _WEIGHT
    steps = np.rint(centred * (constant.type.scale / unit))
    if np.abs(steps).max() >= 2**30:
        raise OverflowError("a constant is too far from the tensor's numbers")
    steps = -steps if isinstance(op, Sub) and op.a is x else steps
    kind = TensorType(DType.INT32, steps.shape, Quantization((unit,), (0,)))
    return weights, Value("bias", kind, steps.astype(np.int32))
