"""One NN launch as sections 4.1 to 4.10 define it: what coefficients and descriptor come from."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]


class Kind(enum.Enum):
    """Which of the three forms of section 4.3 a launch has."""

    CONVOLUTION = "convolution"
    FULLY_CONNECTED = "fully connected"
    ADDITION = "addition"  # V7 only: two planes, one tap each


@dataclass(frozen=True)
class Weights:
    """Weights as the encoders take them.

    data: uint8, [OC, IC, taps] flattened; with `diagonal` [OC, taps], all other planes of a kernel
    being `fill`. `zero` is the descriptor's zero point, which decides what a zero run is; `fill`
    the byte that lowering pads with. On V8 data holds the file's bytes and `signed` says how they
    are meant.
    """

    data: U8
    zero: int
    fill: int
    signed: bool = False
    diagonal: bool = False


@dataclass(frozen=True)
class Layer:
    """Sizes after lowering. H is TFLite's height, W its width; strides are equal in both.

    in_channels is what one kernel spans in the weights; `planes` what the descriptor names.
    """

    kind: Kind
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
    addend: int = 0  # V7 addition: the word of the second plane's taps
    title: str = ""

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
