"""A layer: what one launch of the NN cores computes, before it is coded.

Ref: docs/hardware/etnaviv.md sections 4.1 to 4.10
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Weights:
    """Weights as the encoders take them.

    data: uint8, [OC, IC, taps] flattened; with `diagonal` [OC, taps]: kernel n has weights in plane
    n alone, and `fill` in the others. zero: the instruction's zero point; V7 codes runs of it.
    fill: the byte that lowering pads with. signed: the bytes of data mean int8 (Mesa, V8).
    """

    data: U8
    zero: int
    fill: int
    signed: bool = False
    diagonal: bool = False


@dataclass(frozen=True)
class Layer:
    """Sizes after lowering; strides are equal in both directions.

    in_channels: planes that one kernel has weights for; planes: those that the instruction names.
    """

    height: int
    width: int
    in_channels: int
    planes: int
    out_height: int
    out_width: int
    out_channels: int
    kernel_height: int
    kernel_width: int
    in_zero: int
    out_zero: int
    scale: np.float32  # input scale * weight scale / output scale, rounded as Mesa rounds
    weights: Weights
    bias: I32
    stride: int = 1
    offset: int = 0  # of the first tap, in x and y
    offset_y: int | None = None  # where it is another one in y
    depthwise: bool = False
    pointwise: bool = False
    relu: bool = False
    first_pixel: bool = False  # keep the top-left pixel of each 2x2 of a doubled output grid
    largest: bool = False  # keep the largest of each 2x2 instead
    addend: int | None = None  # V7 addition: the word of the second plane's taps
    folded: tuple[int, int, int] | None = None  # (x, y, planes) where the input is seen so instead
    title: str = ""

    @property
    def halves(self) -> bool:
        """Whether one of each 2x2 results is kept."""
        return self.first_pixel or self.largest

    @property
    def taps(self) -> int:
        return self.kernel_height * self.kernel_width

    @property
    def kernel_weights(self) -> int:
        """Weights of one kernel in the stream."""
        return self.taps * self.in_channels

    @property
    def plane_bytes(self) -> int:
        """Bytes of one output plane in memory."""
        return self.out_height * self.out_width

    @property
    def is_one_window(self) -> bool:
        """Whether one kernel plane covers the whole image: small fully connected layers."""
        kernel = (self.kernel_height, self.kernel_width)
        covers = kernel == (self.height, self.width) and self.planes == 1
        return covers and (self.out_height, self.out_width) == (1, 1)
