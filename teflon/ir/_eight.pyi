from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Int32s = NDArray[np.int32]
Finishing = tuple[Int32s, Int32s, Int32s, Int32s, int, int, int]
"""bias, factors, left and right shifts (one for each output, padded to 16), zero, low, high."""

def convolve(
    x: NDArray[Any],
    zero: int,
    weights: NDArray[np.int16],
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    pads: Pair,
    rows: tuple[int, int, int],
    finishing: Finishing,
    out: NDArray[Any],
    /,
) -> None: ...
def depthwise(
    x: NDArray[Any],
    zero: int,
    weights: NDArray[np.int32],
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    pads: Pair,
    rows: tuple[int, int, int],
    finishing: Finishing,
    out: NDArray[Any],
    /,
) -> None: ...
