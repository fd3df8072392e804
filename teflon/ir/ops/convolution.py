"""Convolutions and the fully connected layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import (
    Multiplier,
    RealMultiplier,
    Requantizer,
    WideMultiplier,
    convolution_factor,
)
from teflon.ir.types import NO_PADDING, Activation, Array, DType, Padding, TensorType
from teflon.ir.windows import (
    convolve,
    convolve_depthwise,
    convolve_transposed,
    exact_type,
    largest_sum,
    magnitude,
    pad_image,
)

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
class _Accumulating(Op):
    """What all of these have in common: input, weights, bias, and one requantisation."""

    output_axis: ClassVar[int] = 0  # the weights' axis that runs over the outputs

    input: Value
    weights: Value
    bias: Value | None = None
    output: Value
    if TYPE_CHECKING:  # fields of each operation, declared there to be its last attributes
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
        """TFLite refuses uint8 models whose bias has a scale of its own."""
        if self.input.type.dtype is not DType.UINT8 or bias.quantization is None:
            return []
        if rules.usable_scales(self.output):  # told already
            return []
        product = self.input.type.scale * self.weights.type.scale
        if abs(product - bias.scale) / self.output.type.scale <= 0.02:
            return []
        return [f"bias has scale {bias.scale:g}, must have {product:g} (input times weight scale)"]

    def _sums(self, x: Array, weights: Array) -> Array:
        """Return the sums over the inputs' (already without zero point) and weights' products."""
        raise NotImplementedError(type(self).__name__)

    def evaluate(self, *operands: Array | None) -> tuple[Array, ...]:
        x, weights, bias = rules.present(operands[0]), rules.present(operands[1]), operands[2]
        kinds = (self.input.type.dtype, self.weights.type.dtype)
        if kinds not in _KERNELS or self.output.type.dtype is not kinds[0]:
            raise rules.no_kernel(self, self.input, self.weights, self.output)
        if kinds[0] is DType.FLOAT32:
            return (self._real(x, weights, bias),)
        return (self._quantised(x, weights, bias),)

    def _real(self, x: Array, weights: Array, bias: Array | None) -> Array:
        total = self._sums(x.astype(np.float64), weights.astype(np.float64))
        if bias is not None:
            total = total + bias
        return rules.clamp_real(self, total.astype(np.float32), self.activation)

    def _quantised(self, x: Array, weights: Array, bias: Array | None) -> Array:
        self._refuse_unknown_forms()
        packed = self._constant_weights if weights is self.weights.data else self._pack(weights)
        centred = x.astype(packed.weights.dtype)
        centred -= self.input.type.zero_point
        sums = self._sums(centred, packed.weights)
        reach = packed.bound + (magnitude(bias) if bias is not None else 0)
        finish = Requantizer(
            multiplier=self._multiplier(),
            output=self.output.type,
            clamp=rules.integer_clamp(self, self.activation, self.clamp, self.output.type),
            bias=bias,
            wraps=reach >= 2**31 and self.input.type.dtype is not DType.INT16,
        )
        return finish(sums)

    def _refuse_unknown_forms(self) -> None:
        quantization = self.weights.type.quantization
        per_axis = quantization is not None and quantization.per_axis
        if per_axis and self.input.type.dtype is DType.UINT8:
            raise rules.unsupported(
                self, f"weights {self.weights.name!r} are quantised per axis, must be per tensor"
            )
        wide = self.input.type.dtype is DType.INT16
        if wide and self.bias is not None and self.bias.type.dtype is not DType.INT64:
            raise rules.unsupported(
                self, f"bias is {self.bias.type.dtype.value} beside i16, must be i64"
            )

    @cached_property
    def _constant_weights(self) -> _Packed:
        return self._pack(rules.present(self.weights.data))

    def _pack(self, weights: Array) -> _Packed:
        zero = self.weights.type.zero_point if self._honours_weight_zero_point else 0
        centred = weights.astype(np.int32)
        centred -= zero
        least, most = self.input.type.dtype.range
        edges = np.array([least, most]) - self.input.type.zero_point
        bound = largest_sum(edges, np.moveaxis(centred, self.output_axis, 0))
        return _Packed(centred.astype(exact_type(bound)), bound)


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2D(_Accumulating):
    """Convolution over height and width; grouped where input channels exceed the weights'.

    input NHWC; weights OHWI; bias int32 [O] or absent; output NHWC.
    `clamp` is the integer range that lowering makes of `activation` (quantised values, inclusive);
    where it is set it rules and `activation` is NONE.
    """

    mnemonic: ClassVar[str] = "conv2d"
    tflite_name: ClassVar[str] = "CONV_2D"

    stride: tuple[int, int] = (1, 1)  # (y, x)
    dilation: tuple[int, int] = (1, 1)  # (y, x)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.input, 4)
        rules.need_rank(self.weights, 4)
        outputs, height, width, depth = self.weights.shape
        channels = self.input.shape[3]
        if depth == 0 or channels % depth or outputs % (channels // depth or 1):
            raise ValueError(
                f"{rules.describe(self.weights)}, must have input channels that divide {channels}"
                " and outputs that are a multiple of the groups"
            )
        shape = window_output(self.input, (height, width), self.stride, self.dilation, self.padding)
        return (TensorType(self.input.type.dtype, (*shape, outputs)),)

    def check(self) -> list[str]:
        return [*super().check(), *window_problems(self.stride, self.dilation, self.padding)]

    def _sums(self, x: Array, weights: Array) -> Array:
        return convolve(pad_image(x, self.padding), weights, self.stride, self.dilation)


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv2D(_Accumulating):
    """Convolution of each channel by itself.

    input NHWC; weights [1, kh, kw, C * multiplier], output channel = c * multiplier + m.
    `clamp` as in Conv2D.
    """

    mnemonic: ClassVar[str] = "depthwise_conv2d"
    tflite_name: ClassVar[str] = "DEPTHWISE_CONV_2D"
    output_axis: ClassVar[int] = 3

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    @property
    def _inside(self) -> int:
        return math.prod(self.weights.shape[1:3])

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.input, 4)
        rules.need_rank(self.weights, 4)
        one, height, width, outputs = self.weights.shape
        channels = self.input.shape[3]
        if one != 1 or channels == 0 or outputs % channels:
            raise ValueError(
                f"{rules.describe(self.weights)}, must be [1, height, width, a multiple of"
                f" {channels} channels]"
            )
        shape = window_output(self.input, (height, width), self.stride, self.dilation, self.padding)
        return (TensorType(self.input.type.dtype, (*shape, outputs)),)

    def check(self) -> list[str]:
        return [*super().check(), *window_problems(self.stride, self.dilation, self.padding)]

    def _sums(self, x: Array, weights: Array) -> Array:
        return convolve_depthwise(pad_image(x, self.padding), weights, self.stride, self.dilation)


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposeConv(_Accumulating):
    """Transposed convolution; weights OHWI; `padding` is that of the forward convolution which
    maps the output's size to the input's.
    """

    mnemonic: ClassVar[str] = "transpose_conv"
    tflite_name: ClassVar[str] = "TRANSPOSE_CONV"

    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    @property
    def macs(self) -> int:
        return math.prod(self.input.shape[:3]) * self.weights.type.size

    def infer(self) -> tuple[TensorType, ...]:
        for value in (self.input, self.weights, self.output):
            rules.need_rank(value, 4)
        outputs, height, width, depth = self.weights.shape
        if depth != self.input.shape[3]:
            raise ValueError(
                f"{rules.describe(self.weights)}, must have {self.input.shape[3]} input channels"
            )
        size = (self.output.shape[1], self.output.shape[2])
        stride = (max(self.stride[0], 1), max(self.stride[1], 1))  # `check` tells of smaller ones
        forward = self.padding.output(size, (height, width), stride)
        if forward != self.input.shape[1:3]:
            raise ValueError(
                f"result {self.output.name!r} is {list(size)}, must be a size whose forward"
                f" convolution yields {list(self.input.shape[1:3])} (it yields {list(forward)})"
            )
        return (TensorType(self.input.type.dtype, (self.input.shape[0], *size, outputs)),)

    def check(self) -> list[str]:
        return [*super().check(), *window_problems(self.stride, (1, 1), self.padding)]

    def _sums(self, x: Array, weights: Array) -> Array:
        size = (self.output.shape[1], self.output.shape[2])
        origin = (self.padding.top, self.padding.left)
        return convolve_transposed(x, weights, self.stride, origin, size)


@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(_Accumulating):
    """Matrix product: input flattened to [batch, K], weights [O, K], bias int32 [O] or absent.

    With `keep_num_dims` the output keeps the input's leading dimensions.
    """

    mnemonic: ClassVar[str] = "fully_connected"
    tflite_name: ClassVar[str] = "FULLY_CONNECTED"

    keep_num_dims: bool = False
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    @property
    def _per_axis(self) -> bool:
        quantization = self.weights.type.quantization
        return quantization is not None and len(quantization.scales) > 1

    @property
    def _honours_weight_zero_point(self) -> bool:
        return not self._per_axis

    def _multiplier(self) -> RealMultiplier:
        """LiteRT 2's kernel multiplies in float64; TFLite 2.14 and older rounded twice in fixed
        point, at most one step apart.
        """
        return RealMultiplier(
            convolution_factor(self.input.type, self.weights.type, self.output.type)
        )

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.weights, 2)
        outputs, inside = self.weights.shape
        if self.keep_num_dims:
            if self.input.shape[-1:] != (inside,):
                raise ValueError(f"{rules.describe(self.input)}, must end in {inside}")
            return (TensorType(self.input.type.dtype, (*self.input.shape[:-1], outputs)),)
        if inside == 0 or self.input.type.size % inside:
            raise ValueError(f"{rules.describe(self.input)}, must have a multiple of {inside}")
        batch = self.input.type.size // inside
        return (TensorType(self.input.type.dtype, (batch, outputs)),)

    def _sums(self, x: Array, weights: Array) -> Array:
        total: Array = x.reshape(-1, weights.shape[1]) @ weights.T
        return total.reshape(self.output.shape)


def window_output(
    image: Value,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Padding,
) -> tuple[int, int, int]:
    """Return (batch, height, width) of a window's output; raises ValueError where it is empty."""
    stride = (max(stride[0], 1), max(stride[1], 1))  # `window_problems` tells of smaller ones
    height, width = padding.output((image.shape[1], image.shape[2]), kernel, stride, dilation)
    if min(height, width) < 1:
        raise ValueError(f"{rules.describe(image)}, must not be smaller than the kernel {kernel}")
    return image.shape[0], height, width


def window_problems(
    stride: tuple[int, int], dilation: tuple[int, int], padding: Padding
) -> list[str]:
    """Return what is wrong with a window's attributes."""
    sides = (padding.top, padding.bottom, padding.left, padding.right)
    return [
        *rules.at_least("stride", stride, 1),
        *rules.at_least("dilation", dilation, 1),
        *rules.at_least("padding", sides, 0),
    ]
