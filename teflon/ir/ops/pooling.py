"""Reduce windows of an image to one value each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.ops.convolution import window_output, window_problems
from teflon.ir.quantized import Int64s, divide_truncating
from teflon.ir.types import NO_PADDING, Activation, Array, DType, Padding, TensorType
from teflon.ir.windows import pad_image, windows

_POOLED = (DType.UINT8, DType.INT8, DType.INT16, DType.FLOAT32)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pool(Op):
    """What both poolings have in common."""

    input: Value
    output: Value
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    activation: Activation = Activation.NONE
    clamp: tuple[int, int] | None = None

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.input, 4)
        shape = window_output(self.input, self.kernel, self.stride, (1, 1), self.padding)
        return (TensorType(self.input.type.dtype, (*shape, self.input.shape[3])),)

    def check(self) -> list[str]:
        return [
            *rules.quantised(self.input, self.output),
            *rules.at_least("kernel", self.kernel, 1),
            *window_problems(self.stride, (1, 1), self.padding),
            *rules.clamp_problems(self.activation, self.clamp, self.output.type),
            *self._padding_problems(),
        ]

    def missing_kernel(self) -> str:
        return rules.outside(self.input, *_POOLED) or rules.no_clamp(self.activation)

    def _padding_problems(self) -> list[str]:
        sides = self.padding
        rows, columns = max(sides.top, sides.bottom), max(sides.left, sides.right)
        if rows < self.kernel[0] and columns < self.kernel[1]:
            return []
        return [f"padding is {sides}, must be smaller than the kernel {self.kernel}"]

    def _taps(self, x: Array, filler: float) -> list[Array]:
        """Return the window's elements: an output-shaped view for each tap, in row order."""
        view = windows(pad_image(x, self.padding, filler), self.kernel, self.stride, (1, 1))
        return [view[:, :, :, y, x] for y in range(self.kernel[0]) for x in range(self.kernel[1])]

    def _finish(self, result: Array) -> Array:
        """Return the result within the activation's bounds, as the output's type."""
        if result.dtype.kind == "f":
            return rules.clamp_real(result, self.activation)
        clamp = rules.integer_clamp(self.activation, self.clamp, self.output.type)
        return np.clip(result, *clamp).astype(self.output.type.dtype.numpy)


class AveragePool2D(_Pool):
    """Mean of the window's elements that lie inside the image; NHWC."""

    mnemonic: ClassVar[str] = "average_pool2d"
    tflite_name: ClassVar[str] = "AVERAGE_POOL_2D"

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        real = self.input.type.dtype is DType.FLOAT32
        taps = self._taps(x if real else x.astype(np.int32), 0)
        total = taps[0].copy()
        for tap in taps[1:]:
            total += tap
        count = self._counts()
        if real:
            return (self._finish(total / count.astype(np.float32)),)
        if self.input.type.dtype is DType.UINT8:
            return (self._finish((total + count // 2) // count),)
        half = np.where(total > 0, count // 2, -(count // 2))
        return (self._finish(divide_truncating(total.astype(np.int64) + half, count)),)

    def _counts(self) -> Int64s:
        """Return how many of each window's elements lie inside the image: [1, height, width, 1]."""
        inside = np.ones((1, *self.input.shape[1:3], 1), np.int64)
        view = windows(pad_image(inside, self.padding), self.kernel, self.stride, (1, 1))
        counts: Int64s = view.sum(axis=(3, 4))
        return counts


class MaxPool2D(_Pool):
    """Largest of the window's elements that lie inside the image; NHWC."""

    mnemonic: ClassVar[str] = "max_pool2d"
    tflite_name: ClassVar[str] = "MAX_POOL_2D"

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        dtype = self.input.type.dtype
        lowest = -np.finfo(np.float32).max if dtype is DType.FLOAT32 else dtype.range[0]
        taps = self._taps(x, float(lowest))
        largest = taps[0].copy()
        for tap in taps[1:]:
            np.maximum(largest, tap, out=largest)
        return (self._finish(largest),)
