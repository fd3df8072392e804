"""Reduce axes to one value each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import (
    Int64s,
    Multiplier,
    divide_truncating,
    multiply_by_quantized_multiplier,
    wrap_int32,
)
from teflon.ir.types import Array, DType, TensorType

_COMPARED = (DType.FLOAT32, DType.UINT8, DType.INT8, DType.INT32, DType.BOOL)
_ADDED = (DType.FLOAT32, DType.INT32, DType.INT64)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Reduction(Op):
    """What all have in common: axes (non-negative, sorted) that disappear or become 1."""

    input: Value
    output: Value
    axes: tuple[int, ...]
    keep_dims: bool = False

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_axes(self.axes, self.input.type.rank)
        kept = [
            1 if axis in self.axes else size
            for axis, size in enumerate(self.input.shape)
            if self.keep_dims or axis not in self.axes
        ]
        return (TensorType(self.input.type.dtype, tuple(kept)),)

    def check(self) -> list[str]:
        return rules.quantised(self.input, self.output)

    def _flat(self, x: Array) -> Array:
        """Return the kept axes and one behind them with all elements that become one."""
        kept = [axis for axis in range(x.ndim) if axis not in self.axes]
        return x.transpose(*kept, *self.axes).reshape(*(x.shape[a] for a in kept), -1)

    def _sum(self, x: Array) -> Array:
        """Return the sums; floats are added one by one in memory order, as the kernel does."""
        flat = self._flat(x)
        if x.dtype.kind == "f" and flat.shape[-1]:
            total = np.add.accumulate(flat, axis=-1)[..., -1]
        else:
            total = flat.sum(axis=-1)
        return np.asarray(total).reshape(self.output.shape)

    def _without_elements(self) -> str:
        """Why there is no result: nothing is the mean, or the largest, of no elements."""
        empty = any(self.input.shape[axis] == 0 for axis in self.axes)
        return "an axis that is reduced has no elements" if empty else ""


class Mean(_Reduction):
    """Mean over some axes (non-negative, sorted)."""

    mnemonic: ClassVar[str] = "mean"
    tflite_name: ClassVar[str] = "MEAN"

    def missing_kernel(self) -> str:
        known = rules.outside(self.input, DType.FLOAT32, DType.INT32, *rules.QUANTISED)
        return known or self._without_elements()

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        dtype = self.input.type.dtype
        count = math.prod(self.input.shape[axis] for axis in self.axes)
        if dtype is DType.FLOAT32:
            return (np.asarray(self._sum(x) / np.float32(count)),)
        if dtype is DType.INT32:
            return (divide_truncating(self._sum(x.astype(np.int64)), count).astype(np.int32),)
        return (self._quantised(self._sum(x.astype(np.int64)), count),)

    def _quantised(self, total: Int64s, count: int) -> Array:
        """Fold 1/count into the multiplier, losing its lowest bits as the kernel does."""
        x, y = self.input.type, self.output.type
        multiplier = Multiplier.of(np.float64(x.scale) / np.float64(y.scale))
        quantized, exponent = int(multiplier.quantized), int(multiplier.shift)
        shift = min(count.bit_length() - 1, 32, 31 + exponent)
        quantized = (quantized << shift) // count
        centred = total - x.zero_point * count
        result = multiply_by_quantized_multiplier(centred, quantized, exponent - shift)
        return rules.quantise(result, y, y.dtype.range)


class Sum(_Reduction):
    """Sum over some axes (non-negative, sorted).

    # Ref: LiteRT 2.3, tflite/kernels/reduce.cc (EvalSum)
    """

    mnemonic: ClassVar[str] = "sum"
    tflite_name: ClassVar[str] = "SUM"

    def missing_kernel(self) -> str:
        return rules.outside(self.input, *_ADDED, *rules.QUANTISED)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype in _ADDED:
            return (self._sum(x).astype(x.dtype),)
        kind, y = self.input.type, self.output.type
        count = math.prod(self.input.shape[axis] for axis in self.axes)
        centred = wrap_int32(self._sum(x.astype(np.int64)) - kind.zero_point * count)
        factor = Multiplier.of(np.float64(kind.scale) / np.float64(y.scale))
        return (rules.quantise(factor.apply(centred), y, y.dtype.range),)


class _Extreme(_Reduction):
    """The largest or smallest of the stored numbers; the result has the input's quantisation."""

    choose: ClassVar[Callable[..., Array]]

    def check(self) -> list[str]:
        return [
            *super().check(),
            *rules.element_type(self.input, *_ADDED, *rules.QUANTISED),
            *rules.same_quantisation(self.input, self.output),
        ]

    def missing_kernel(self) -> str:
        return self._without_elements() or super().missing_kernel()

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        flat = self._flat(rules.present(operands[0]))
        return (np.asarray(type(self).choose(flat, axis=-1)).reshape(self.output.shape),)


class ReduceMax(_Extreme):
    """The largest over some axes (non-negative, sorted)."""

    mnemonic: ClassVar[str] = "reduce_max"
    tflite_name: ClassVar[str] = "REDUCE_MAX"
    choose: ClassVar[Callable[..., Array]] = np.max


class ReduceMin(_Extreme):
    """The smallest over some axes (non-negative, sorted)."""

    mnemonic: ClassVar[str] = "reduce_min"
    tflite_name: ClassVar[str] = "REDUCE_MIN"
    choose: ClassVar[Callable[..., Array]] = np.min


@dataclass(frozen=True, eq=False, kw_only=True)
class _Place(Op):
    """What both have in common: the axis (non-negative) disappears."""

    choose: ClassVar[Callable[..., Array]]
    loses: ClassVar[float]  # to every other number; stands for a NaN

    input: Value
    output: Value
    axis: int

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_axis(self.axis, self.input.type.rank)
        if not self.input.shape[self.axis]:
            raise ValueError(f"axis {self.axis} has size 0, must have elements")
        shape = rules.without(self.input.shape, self.axis)
        return (TensorType(self.output.type.dtype, shape),)

    def check(self) -> list[str]:
        return [
            *rules.element_type(self.input, *_COMPARED),
            *rules.element_type(self.output, DType.INT32, DType.INT64),
        ]

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        nan = np.isnan(x) if x.dtype.kind == "f" else None
        if nan is None or not nan.any():
            places = type(self).choose(x, axis=self.axis, keepdims=True)
        else:
            places = self._beside_nan(x, nan)
        return (places.astype(self.output.type.dtype.numpy).reshape(self.output.shape),)

    def _beside_nan(self, x: Array, nan: Array) -> Array:
        """Return the places among the numbers that are not NaN; 0 where all are."""
        how: dict[str, Any] = {"axis": self.axis, "keepdims": True}
        places = type(self).choose(np.where(nan, self.loses, x), **how)
        only = np.take_along_axis(nan, places, self.axis)  # the others equal `loses`
        return np.where(only, np.argmax(~nan, **how), places)


class ArgMax(_Place):
    """Where along an axis (non-negative) the largest value stands, the first of equal ones.

    The result is int32 or int64. NaN is passed over; where all are NaN the place is 0. TFLite does
    the same, except along the last axis: with NaN there, its vector code may find another place.

    # Ref: LiteRT 2.3, tflite/kernels/arg_min_max.cc, internal/optimized/optimized_ops.h (ArgMinMax)
    """

    mnemonic: ClassVar[str] = "arg_max"
    tflite_name: ClassVar[str] = "ARG_MAX"
    choose: ClassVar[Callable[..., Array]] = np.argmax
    loses: ClassVar[float] = -math.inf


class ArgMin(_Place):
    """Where along an axis (non-negative) the smallest value stands; otherwise as ARG_MAX."""

    mnemonic: ClassVar[str] = "arg_min"
    tflite_name: ClassVar[str] = "ARG_MIN"
    choose: ClassVar[Callable[..., Array]] = np.argmin
    loses: ClassVar[float] = math.inf
