from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Stages = tuple[float, int, int, int, int, int, float, int, int]
"""clip, add, low, high, low and high behind EW, scale, offset, pend."""
Post = tuple[
    NDArray[np.int32],
    NDArray[np.float64] | None,
    NDArray[np.int8] | None,
    NDArray[np.int32] | None,
    Stages,
    int,
]
"""bias, factors, operand, table, stages, channels."""

def convolve(
    features: NDArray[np.int8],
    pad: NDArray[Any],
    weights: NDArray[Any],
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    pads: Pair,
    rows: tuple[int, int, int],
    post: Post | None,
    out: NDArray[Any],
    /,
) -> None: ...
def depthwise(
    features: NDArray[np.int8],
    pad: NDArray[Any],
    weights: NDArray[Any],
    kernel: Pair,
    stride: Pair,
    dilation: Pair,
    pads: Pair,
    rows: tuple[int, int, int],
    post: Post | None,
    out: NDArray[Any],
    /,
) -> None: ...
