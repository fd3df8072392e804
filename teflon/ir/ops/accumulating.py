"""What convolutions and the fully connected layer have in common: sums, and what follows them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from teflon.ir import eight
from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import (
    Multiplier,
    RealMultiplier,
    Requantizer,
    WideMultiplier,
    convolution_factor,
)
from teflon.ir.types import Activation, Array, DType, Padding, TensorType
from teflon.ir.windows import exact_type, largest_sum, magnitude

_KERNELS = (
    (DType.UINT8, DType.UINT8),
    (DType.INT8, DType.INT8),
    (DType.INT16, DType.INT8),
    (DType.FLOAT32, DType.FLOAT32),
)  # (input, weights)
_BIAS_TYPES = {
    DType.UINT8: (DType.INT32,),
    DType.INT8: (DType.INT32,),
    DType.INT16: (DType.INT32, DType.INT64),
    DType.FLOAT32: (DType.FLOAT32,),
}


@dataclass(frozen=True)
class _Packed:
    """Weights less their zero point, in the type that holds every sum exactly."""

    weights: Array
    bound: int  # of every partial sum


@dataclass(frozen=True, eq=False, kw_only=True)
class Accumulating(Op):
    """What all of these have in common: input, weights, bias, and one requantisation."""

    output_axis: ClassVar[int] = 0  # the weights' axis that runs over the outputs

    input: Value
    weights: Value
    bias: Value | None = None
    output: Value
    if TYPE_CHECKING:  # each operation declares these, so that they are its last attributes
        activation: Activation
        clamp: tuple[int, int] | None

    @property
    def macs(self) -> int:
        return self.output.type.size * self._inside

    @property
    def _inside(self) -> int:
        """Weights that go into one output."""
        return math.prod(self.weights.shape[1:])

    @property
    def _outputs(self) -> int:
        return self.weights.shape[self.output_axis]

    @property
    def _honours_weight_zero_point(self) -> bool:
        return self.input.type.dtype is DType.UINT8

    def _multiplier(self) -> Multiplier | RealMultiplier:
        """Return the factor from sums to the output's quantised values."""
        types = (self.input.type, self.weights.type, self.output.type)
        if self.input.type.dtype is DType.INT16:
            return WideMultiplier.of(convolution_factor(*types))
        one_byte = self.input.type.dtype is DType.UINT8
        return Multiplier.of(convolution_factor(*types, float32_product=one_byte))

    def check(self) -> list[str]:
        return [
            *rules.quantised(self.input, self.output),
            *rules.per_axis_problems(self.weights, self.output_axis),
            *self._bias_problems(),
            *rules.clamp_problems(self.activation, self.clamp, self.output.type),
        ]

    def _bias_problems(self) -> list[str]:
        if self.bias is None or self.weights.type.rank <= self.output_axis:
            return []
        problems = []
        if self.bias.shape != (self._outputs,):
            problems.append(f"{rules.describe(self.bias)}, must have the shape [{self._outputs}]")
        kinds = _BIAS_TYPES.get(self.input.type.dtype)
        if kinds and self.bias.type.dtype not in kinds:
            names = " or ".join(kind.value for kind in kinds)
            problems.append(f"{rules.describe(self.bias)}, must be {names}")
        return problems + self._bias_scale_problems(self.bias.type)

    def _bias_scale_problems(self, bias: TensorType) -> list[str]:
        """Return a sentence for a uint8 bias with a scale of its own, which TFLite refuses."""
        if self.input.type.dtype is not DType.UINT8 or bias.quantization is None:
            return []
        if rules.usable_scales(self.output):  # reported already
            return []
        product = self.input.type.scale * self.weights.type.scale
        if abs(product - bias.scale) / self.output.type.scale <= 0.02:
            return []
        return [f"bias has scale {bias.scale:g}, must have {product:g} (input times weight scale)"]

    def _sums(self, x: Array, weights: Array) -> Array:
        """Return the sums over the inputs' (already without zero point) and weights' products."""
        raise NotImplementedError(type(self).__name__)

    def missing_kernel(self) -> str:
        kinds = (self.input.type.dtype, self.weights.type.dtype)
        if kinds not in _KERNELS or self.output.type.dtype is not kinds[0]:
            return rules.no_kernel(self.input, self.weights, self.output)
        quantization = self.weights.type.quantization
        per_axis = quantization is not None and quantization.per_axis
        if per_axis and kinds[0] is DType.UINT8:
            return f"weights {self.weights.name!r} are quantised per axis, must be per tensor"
        bias = None if self.bias is None else self.bias.type.dtype
        if kinds[0] is DType.INT16 and bias not in (None, DType.INT64):
            return f"bias is {bias.value} beside i16, must be i64"
        return rules.no_clamp(self.activation)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x, weights, bias = rules.present(operands[0]), rules.present(operands[1]), operands[2]
        if self.input.type.dtype is DType.FLOAT32:
            return (self._real(x, weights, bias),)
        return (self._quantised(x, weights, bias),)

    def _real(self, x: Array, weights: Array, bias: Array | None) -> Array:
        total = self._sums(x.astype(np.float64), weights.astype(np.float64))
        if bias is not None:
            total = total + bias
        return rules.clamp_real(total.astype(np.float32), self.activation)

    def _quantised(self, x: Array, weights: Array, bias: Array | None) -> Array:
        if (done := self._in_one_pass(x, weights, bias)) is not None:
            return done
        packed = self._constant_weights if weights is self.weights.data else self._pack(weights)
        centred = x.astype(packed.weights.dtype)
        centred -= self.input.type.zero_point
        sums = self._sums(centred, packed.weights)
        reach = packed.bound + (magnitude(bias) if bias is not None else 0)
        finish = Requantizer(
            multiplier=self._multiplier(),
            output=self.output.type,
            clamp=rules.integer_clamp(self.activation, self.clamp, self.output.type),
            bias=bias,
            wraps=reach >= 2**31 and self.input.type.dtype is not DType.INT16,
        )
        return finish(sums)

    def _in_one_pass(self, x: Array, weights: Array, bias: Array | None) -> Array | None:
        """Return the output where there is a loop for it, else None."""
        return None

    @cached_property
    def _constant_weights(self) -> _Packed:
        return self._pack(rules.present(self.weights.data))

    def _centred(self, weights: Array) -> Array:
        """Return weights less their zero point."""
        zero = self.weights.type.zero_point if self._honours_weight_zero_point else 0
        centred = weights.astype(np.int32)
        centred -= zero
        return centred

    def _pack(self, weights: Array) -> _Packed:
        centred = self._centred(weights)
        least, most = self.input.type.dtype.range
        edges = np.array([least, most]) - self.input.type.zero_point
        bound = largest_sum(edges, np.moveaxis(centred, self.output_axis, 0))
        return _Packed(centred.astype(exact_type(bound)), bound)


class Windowed(Accumulating):
    """Convolutions that `teflon.ir.eight` has a loop for."""

    if TYPE_CHECKING:  # as above
        stride: tuple[int, int]
        dilation: tuple[int, int]
        padding: Padding

    def _has_loop(self) -> bool:
        raise NotImplementedError(type(self).__name__)

    def _kernel(self, weights: Array) -> eight.Kernel:
        """Return centred weights packed for the loop."""
        raise NotImplementedError(type(self).__name__)

    @cached_property
    def _constant_kernel(self) -> eight.Kernel:
        return self._kernel(self._centred(rules.present(self.weights.data)))

    @cached_property
    def _covered(self) -> bool:
        pad, types = self.padding, (self.input.type, self.weights.type, self.output.type)
        sides = (pad.top, pad.bottom, pad.left, pad.right)
        return eight.covers(types, (*self.stride, *self.dilation, *sides)) and self._has_loop()

    @cached_property
    def _constant_end(self) -> eight.Finishing | None:
        return self._end(None if self.bias is None else self.bias.data)

    def _end(self, bias: Array | None) -> eight.Finishing | None:
        """Return what follows the sums, None where the loop cannot do it."""
        multiplier = self._multiplier()
        if not isinstance(multiplier, Multiplier):
            return None
        clamp = rules.integer_clamp(self.activation, self.clamp, self.output.type)
        return eight.finishing(multiplier, bias, self._outputs, self.output.type.zero_point, clamp)

    def _in_one_pass(self, x: Array, weights: Array, bias: Array | None) -> Array | None:
        if not self._covered:
            return None
        constant = self.bias is None or bias is self.bias.data
        end = self._constant_end if constant else self._end(bias)
        if end is None:
            return None
        constant = weights is self.weights.data
        kernel = self._constant_kernel if constant else self._kernel(self._centred(weights))
        zero = self.input.type.zero_point
        return eight.run(x, zero, kernel, self.stride, self.dilation, self.padding, end)
