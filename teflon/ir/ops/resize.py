"""Images made larger or smaller; NHWC, the output's shape says how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value


@dataclass(frozen=True, eq=False, kw_only=True)
class ResizeNearestNeighbor(Op):
    """Take the nearest pixel."""

    mnemonic: ClassVar[str] = "resize_nearest_neighbor"
    tflite_name: ClassVar[str] = "RESIZE_NEAREST_NEIGHBOR"

    input: Value
    output: Value
    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class ResizeBilinear(Op):
    """Interpolate between four pixels."""

    mnemonic: ClassVar[str] = "resize_bilinear"
    tflite_name: ClassVar[str] = "RESIZE_BILINEAR"

    input: Value
    output: Value
    align_corners: bool = False
    half_pixel_centers: bool = False
