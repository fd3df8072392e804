"""Make images larger or smaller; NHWC, to the size of the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import Int64s, divide_truncating, round_half_away
from teflon.ir.types import Array, DType, TensorType

_ONE = 1 << 10  # coordinates between pixels carry 10 fraction bits


@dataclass(frozen=True, eq=False, kw_only=True)
class _Resize(Op):
    """What both have in common."""

    input: Value
    output: Value
    align_corners: bool = False
    half_pixel_centers: bool = False

    def infer(self) -> tuple[TensorType, ...]:
        rules.need_rank(self.input, 4)
        rules.need_rank(self.output, 4)
        for value in (self.input, self.output):
            if min(value.shape[1:3]) < 1:
                raise ValueError(f"{rules.describe(value)}, must have rows and columns")
        batch, _, _, channels = self.input.shape
        shape = (batch, *self.output.shape[1:3], channels)
        return (TensorType(self.input.type.dtype, shape),)

    def check(self) -> list[str]:
        if self.align_corners and self.half_pixel_centers:
            return ["align_corners and half_pixel_centers are both set, must not be"]
        return []


class ResizeNearestNeighbor(_Resize):
    """Resize an image: each pixel is the nearest one of the input."""

    mnemonic: ClassVar[str] = "resize_nearest_neighbor"
    tflite_name: ClassVar[str] = "RESIZE_NEAREST_NEIGHBOR"

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        rows = self._nearest(self.input.shape[1], self.output.shape[1])
        columns = self._nearest(self.input.shape[2], self.output.shape[2])
        return (x[:, rows[:, np.newaxis], columns],)

    def _nearest(self, size: int, wanted: int) -> Array:
        """Return the source index of each target index along one axis, computed in float32."""
        aligned = self.align_corners and wanted > 1
        less = 1 if aligned else 0
        scale = np.float32(size - less) / np.float32(wanted - less)
        offset = np.float32(0.5 if self.half_pixel_centers else 0.0)
        place = (np.arange(wanted, dtype=np.float32) + offset) * scale
        place = round_half_away(place) if self.align_corners else np.floor(place)
        return np.clip(place.astype(np.intp), 0, size - 1)


class ResizeBilinear(_Resize):
    """Resize an image: each pixel is interpolated between four of the input."""

    mnemonic: ClassVar[str] = "resize_bilinear"
    tflite_name: ClassVar[str] = "RESIZE_BILINEAR"

    def missing_kernel(self) -> str:
        return rules.outside(self.input, DType.FLOAT32, *rules.QUANTISED)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype is DType.FLOAT32:
            return (self._real(x),)
        if self.input.type.dtype is DType.UINT8:  # no kernel of its own: float32, then rounded
            return ((self._real(x) + np.float32(0.5)).astype(np.uint8),)
        return (self._integer(x),)

    def _integer(self, x: Array) -> Array:
        above, below, y = self._integer_taps(self.input.shape[1], self.output.shape[1])
        left, right, z = self._integer_taps(self.input.shape[2], self.output.shape[2])
        y, z = y[:, np.newaxis, np.newaxis], z[np.newaxis, :, np.newaxis]
        wide = x.astype(np.int64)
        top = wide[:, above][:, :, left] * (_ONE - z) + wide[:, above][:, :, right] * z
        bottom = wide[:, below][:, :, left] * (_ONE - z) + wide[:, below][:, :, right] * z
        total = top * (_ONE - y) + bottom * y
        half = np.where(total > 0, 1 << 19, -(1 << 19))
        return divide_truncating(total + half, 1 << 20).astype(x.dtype)

    def _integer_taps(self, size: int, wanted: int) -> tuple[Int64s, Int64s, Int64s]:
        """Return the two source indices and the second one's weight in 1/1024, for each target."""
        less = 1 if self.align_corners and wanted > 1 else 0
        scale = (_ONE * (size - less) + (wanted - less) // 2) // (wanted - less)
        place = np.arange(wanted, dtype=np.int64) * scale
        if self.half_pixel_centers:
            place += scale // 2 - _ONE // 2
        lower = np.maximum(divide_truncating(place, _ONE), 0)
        upper = np.minimum(divide_truncating(place + _ONE - 1, _ONE), size - 1)
        return lower, upper, place - _ONE * lower

    def _real(self, x: Array) -> Array:
        above, below, y = self._real_taps(self.input.shape[1], self.output.shape[1])
        left, right, z = self._real_taps(self.input.shape[2], self.output.shape[2])
        y, z = y[:, np.newaxis, np.newaxis], z[np.newaxis, :, np.newaxis]
        one = np.float32(1)
        corners = ((above, left, one - y, one - z), (below, left, y, one - z),
                   (above, right, one - y, z), (below, right, y, z))  # fmt: skip
        total = np.zeros(self.output.shape, np.float32)
        for row, column, vertical, horizontal in corners:
            total += x[:, row][:, :, column].astype(np.float32) * vertical * horizontal
        return total

    def _real_taps(self, size: int, wanted: int) -> tuple[Array, Array, Array]:
        less = 1 if self.align_corners and wanted > 1 else 0
        scale = np.float32(size - less) / np.float32(wanted - less)
        place = np.arange(wanted, dtype=np.float32)
        if self.half_pixel_centers:
            place = (place + np.float32(0.5)) * scale - np.float32(0.5)
        else:
            place = place * scale
        whole = np.floor(place)
        lower = np.maximum(whole.astype(np.intp), 0)
        upper = np.minimum(whole.astype(np.intp) + 1, size - 1)
        return lower, upper, place - lower.astype(np.float32)
