"""Operations that keep state: their old state is an operand, the new one a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import Multiplier, wrap_int32
from teflon.ir.types import Activation, Array, DType, TensorType

_KERNELS = {
    *((*(DType.FLOAT32,) * 4, bias) for bias in (DType.FLOAT32, None)),
    *(
        (DType.INT8, DType.INT8, kept, kept, bias)
        for kept in (DType.INT16, DType.INT8)
        for bias in (DType.INT32, None)
    ),
}
"""Element types of input, weights_feature, weights_time, state, bias."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Svdf(Op):
    """A layer of low rank with a memory: each filter keeps its last values, one for each call.

    input [batch, inputs], weights_feature [filters, inputs], weights_time [filters, memory], bias
    [units] or absent, state [batch, filters * memory], the oldest value of a filter first; outputs:
    [batch, units], the new state. `rank` filters make one unit: filters = units * rank.

    Element types: all float32; or int8 with weights_time and state both int16 (TFLite) or both int8
    (TFLite for microcontrollers), and an int32 bias. The quantised kernels do not apply
    `activation`: the range of the output is what it lets through. TFLite's refuses any but RELU.

    # Ref: LiteRT 2.3, tflite/kernels/svdf.cc, internal/reference/svdf.h; tflite-micro,
    # tensorflow/lite/micro/kernels/svdf_common.cc
    """

    mnemonic: ClassVar[str] = "svdf"
    tflite_name: ClassVar[str] = "SVDF"

    input: Value
    weights_feature: Value
    weights_time: Value
    bias: Value | None = None
    state: Value
    outputs: tuple[Value, ...]
    rank: int = 1
    activation: Activation = Activation.NONE

    @property
    def macs(self) -> int:
        batch = self.input.shape[0] if self.input.shape else 0
        return batch * (self.weights_feature.type.size + self.weights_time.type.size)

    def infer(self) -> tuple[TensorType, ...]:
        for value in (self.input, self.weights_feature, self.weights_time, self.state):
            rules.need_rank(value, 2)
        batch, inputs = self.input.shape
        filters, memory = self.weights_time.shape
        if self.rank < 1 or filters % self.rank:
            raise ValueError(f"rank is {self.rank}, must be 1 or more and divide {filters} filters")
        if memory < 1:
            raise ValueError(f"{rules.describe(self.weights_time)}, must have 1 column or more")
        for value, shape in (
            (self.weights_feature, (filters, inputs)),
            (self.state, (batch, filters * memory)),
        ):
            if value.shape != shape:
                raise ValueError(f"{rules.describe(value)}, must have the shape {list(shape)}")
        result = TensorType(self.input.type.dtype, (batch, filters // self.rank))
        return result, TensorType(self.state.type.dtype, self.state.shape)

    def check(self) -> list[str]:
        weights = (self.weights_feature, self.weights_time)
        problems = rules.quantised(self.input, *weights, self.state, *self.outputs[:1])
        for value in (self.weights_time, self.state):
            if value.type.dtype is DType.INT16 and value.type.quantization is None:
                problems.append(f"{value.name!r} has no quantisation, must have a scale")
        problems += rules.same_quantisation(self.state, *self.outputs[1:])
        units = [filters // max(self.rank, 1) for filters in self.weights_time.shape[:1]]
        if self.bias is not None and list(self.bias.shape) != units:
            problems.append(f"{rules.describe(self.bias)}, must have the shape {units}")
        return problems

    def missing_kernel(self) -> str:
        named = (self.input, self.weights_feature, self.weights_time, self.state)
        bias = None if self.bias is None else self.bias.type.dtype
        if (*(v.type.dtype for v in named), bias) not in _KERNELS:
            return rules.no_kernel(*self.operands)
        if self.input.type.dtype is DType.FLOAT32:
            return rules.no_clamp(self.activation)
        if self.state.type.dtype is DType.INT8:
            return ""
        if self.state.type.zero_point:
            return f"state has zero point {self.state.type.zero_point}, must be 0 in int16"
        if self.activation is not Activation.RELU:
            return f"fused activation is {self.activation.value}, must be relu beside int16"
        return ""

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, feature, time = (rules.present(a) for a in operands[:3])
        bias, state = operands[3], rules.present(operands[4])
        make = self._real if self.input.type.dtype is DType.FLOAT32 else self._quantised
        return make(x, feature, time, state, bias)

    def _shifted(self, state: Array, newest: Array) -> Array:
        """Return [batch, filters, memory]: the oldest value of each filter gone, one more there."""
        kept = state.reshape(*newest.shape, self.weights_time.shape[1])
        return np.concatenate([kept[..., 1:], newest[..., np.newaxis].astype(kept.dtype)], axis=-1)

    def _units(self, filters: Array) -> Array:
        """Return [batch, units, rank]."""
        return filters.reshape(filters.shape[0], -1, self.rank)

    def _real(
        self, x: Array, feature: Array, time: Array, state: Array, bias: Array | None
    ) -> tuple[Array, ...]:
        newest = (x.astype(np.float64) @ feature.astype(np.float64).T).astype(np.float32)
        kept = self._shifted(state, newest)
        filters = (kept.astype(np.float64) * time).sum(axis=-1).astype(np.float32)
        total = self._units(filters).sum(axis=-1, dtype=np.float32)
        if bias is not None:
            total = total + bias
        return rules.clamp_real(total, self.activation), kept.reshape(state.shape)

    def _quantised(
        self, x: Array, feature: Array, time: Array, state: Array, bias: Array | None
    ) -> tuple[Array, ...]:
        # Products of 8-bit numbers add up exactly in float64, up to 2**37 of them.
        sums = (x - np.float64(self.input.type.zero_point)) @ feature.astype(np.float64).T
        to_state, to_output = self._multipliers()
        zero, y = self.state.type.zero_point, self.outputs[0].type
        scaled = to_state.apply(wrap_int32(sums.astype(np.int64))) + zero
        kept = self._shifted(state, np.clip(scaled, *self.state.type.dtype.range))
        filters = ((kept.astype(np.int64) - zero) * time).sum(axis=-1)
        total = self._units(filters).sum(axis=-1)
        if bias is not None:
            total = total + bias
        result = rules.quantise(to_output.apply(wrap_int32(total)), y, y.dtype.range)
        return result, kept.reshape(state.shape)

    def _multipliers(self) -> tuple[Multiplier, Multiplier]:
        """Return the factors from sums to the state and from it to the output, of float32."""
        named = (self.input, self.weights_feature, self.state, self.weights_time, self.outputs[0])
        x, feature, state, time, y = (np.float32(v.type.scale) for v in named)
        return Multiplier.of(x * feature / state), Multiplier.of(state * time / y)
