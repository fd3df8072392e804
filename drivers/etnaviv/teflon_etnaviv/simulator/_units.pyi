from typing import Any

from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview | NDArray[Any]

def v7_decode(
    stream: Buffer,
    place: Buffer,
    weights: Buffer,
    words: Buffer,
    kernels: int,
    planes: int,
    taps: int,
    at_once: int,
    by_six: bool,
    zero: int,
) -> int: ...
def v8_decode(stream: Buffer, lengths: Buffer, bits: int, count: int) -> bytes: ...
