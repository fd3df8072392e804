"""Windows and axes reduced to one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value
from teflon.ir.types import NO_PADDING, Activation, Padding


@dataclass(frozen=True, eq=False, kw_only=True)
class AveragePool2D(Op):
    """Mean of the window's elements that lie inside the image; NHWC."""

    mnemonic: ClassVar[str] = "average_pool2d"
    tflite_name: ClassVar[str] = "AVERAGE_POOL_2D"

    input: Value
    output: Value
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class MaxPool2D(Op):
    """Largest of the window's elements that lie inside the image; NHWC."""

    mnemonic: ClassVar[str] = "max_pool2d"
    tflite_name: ClassVar[str] = "MAX_POOL_2D"

    input: Value
    output: Value
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Op):
    """Mean over some axes (non-negative, sorted)."""

    mnemonic: ClassVar[str] = "mean"
    tflite_name: ClassVar[str] = "MEAN"

    input: Value
    output: Value
    axes: tuple[int, ...]
    keep_dims: bool = False
