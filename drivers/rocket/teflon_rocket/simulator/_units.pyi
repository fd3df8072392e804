from typing import Any

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Stages = tuple[float, int, int, int, int, int, float, int, int]
"""clip, add, low, high, low and high behind EW, scale, offset, pend."""
Rich = tuple[
    NDArray[np.float64],
    NDArray[np.int16] | None,
    tuple[float, float, float, float, float, float],
    int,
    int,
]
"""numbers, entries, limits of BS and BN and the slopes of the tables, floor, operation."""
Post = tuple[
    NDArray[np.int32],
    NDArray[np.float64] | None,
    NDArray[np.int8] | None,
    NDArray[np.int32] | None,
    Stages,
    int,
    Rich | None,
]
"""bias, factors, operand, table, stages, channels, rich."""

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
def remap(
    features: NDArray[np.int8],
    operand: NDArray[np.int8] | None,
    results: NDArray[np.int8] | None,
    out: NDArray[np.int8],
    /,
) -> None: ...
