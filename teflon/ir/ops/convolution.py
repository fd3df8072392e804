"""Convolutions and the fully connected layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value
from teflon.ir.types import NO_PADDING, Activation, Padding


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2D(Op):
    """Convolution over height and width; grouped where input channels exceed the weights'.

    input NHWC; weights OHWI; bias int32 [O] or absent; output NHWC.
    `clamp` is the integer range that lowering makes of `activation` (quantised values, inclusive);
    where it is set it rules and `activation` is NONE.
    """

    mnemonic: ClassVar[str] = "conv2d"
    tflite_name: ClassVar[str] = "CONV_2D"

    input: Value
    weights: Value
    bias: Value | None = None
    output: Value
    stride: tuple[int, int] = (1, 1)  # (y, x)
    dilation: tuple[int, int] = (1, 1)  # (y, x)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthwiseConv2D(Op):
    """Convolution of each channel by itself.

    input NHWC; weights [1, kh, kw, C * multiplier], output channel = c * multiplier + m.
    `clamp` as in Conv2D.
    """

    mnemonic: ClassVar[str] = "depthwise_conv2d"
    tflite_name: ClassVar[str] = "DEPTHWISE_CONV_2D"

    input: Value
    weights: Value
    bias: Value | None = None
    output: Value
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class TransposeConv(Op):
    """Transposed convolution; weights OHWI; `padding` is that of the forward convolution which
    maps the output's size to the input's.
    """

    mnemonic: ClassVar[str] = "transpose_conv"
    tflite_name: ClassVar[str] = "TRANSPOSE_CONV"

    input: Value
    weights: Value
    bias: Value | None = None
    output: Value
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class FullyConnected(Op):
    """Matrix product: input flattened to [batch, K], weights [O, K], bias int32 [O] or absent.

    With `keep_num_dims` the output keeps the input's leading dimensions.
    """

    mnemonic: ClassVar[str] = "fully_connected"
    tflite_name: ClassVar[str] = "FULLY_CONNECTED"

    input: Value
    weights: Value
    bias: Value | None = None
    output: Value
    keep_num_dims: bool = False
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None
