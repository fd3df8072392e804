"""Convolutions and the fully connected layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from teflon.ir import eight
from teflon.ir.graph import Value
from teflon.ir.ops import rules
from teflon.ir.ops.accumulating import Accumulating, Windowed
from teflon.ir.quantized import RealMultiplier, convolution_factor
from teflon.ir.types import NO_PADDING, Activation, Array, Padding, TensorType
from teflon.ir.windows import convolve, convolve_depthwise, convolve_transposed, pad_image


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2D(Windowed):
    """Convolution over height and width; grouped where input channels exceed the weights'.

    input NHWC; weights OHWI; bias int32 [O] or absent; output NHWC.
    `clamp` is the integer range that lowering makes of `activation` (quantised values, inclusive);
    where it is set, `activation` is NONE.
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

    def _has_loop(self) -> bool:
        return self.input.shape[3] == self.weights.shape[3]  # no groups

    def _kernel(self, weights: Array) -> eight.Kernel:
        return eight.pack(weights)


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv2D(Windowed):
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

    def _has_loop(self) -> bool:
        return self.input.shape[3] == self.weights.shape[3]

    def _kernel(self, weights: Array) -> eight.Kernel:
        return eight.pack_depthwise(weights)


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposeConv(Accumulating):
    """Transposed convolution; weights OHWI.

    `padding` is that of the forward convolution which maps the output's size to the input's.
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
        stride = (max(self.stride[0], 1), max(self.stride[1], 1))  # `check` reports smaller ones
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
class FullyConnected(Accumulating):
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
        """Return the factor as LiteRT 2 applies it, in float64.

        TFLite 2.14 and older round twice in fixed point; results are at most one step apart.
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
    stride = (max(stride[0], 1), max(stride[1], 1))  # `window_problems` reports smaller ones
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
