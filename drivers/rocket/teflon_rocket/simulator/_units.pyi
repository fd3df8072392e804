from typing import Any

import numpy as np
from numpy.typing import NDArray

def gather(
    features: NDArray[np.int8],
    pad: NDArray[Any],
    out: NDArray[Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int],
    first_row: int,
    out_width: int,
    /,
) -> None: ...
def product(a: NDArray[np.int16], b: NDArray[np.int16], out: NDArray[np.int32], /) -> None: ...
def depthwise(
    features: NDArray[np.int8],
    pad: NDArray[Any],
    weights: NDArray[Any],
    out: NDArray[Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    pads: tuple[int, int],
    first_row: int,
    out_width: int,
    /,
) -> None: ...
def post(
    acc: NDArray[Any],
    bias: NDArray[Any],
    mul: NDArray[Any] | None,
    operand: NDArray[np.int8] | None,
    table: NDArray[Any] | None,
    out: NDArray[np.int8],
    stages: tuple[float, float, float, float, float, float, float, float, float, float, float, int],
    first_row: int,
    channels: int,
    /,
) -> None: ...
