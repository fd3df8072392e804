import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

def to_surfaces(
    image: Bytes, raw: Bytes, pixels: int, channels: int, pitch: int, flip: int, fill: int
) -> None: ...
def from_surfaces(
    image: Bytes, raw: Bytes, pixels: int, channels: int, pitch: int, flip: int
) -> None: ...
