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
    only: Buffer = ...,
    /,
) -> int:
    """Return the bits used of one core's stream; weights [kernel, plane, tap], words [kernel, 2].

    With `only` (int32 [kernel], all -1) at most one plane of each kernel is kept: weights [kernel,
    tap], and its number in `only`; 0 is returned where a kernel has weights in a second plane.
    Raises ValueError for a stream that is not what the arguments say.
    """

def v8_decode(stream: Buffer, lengths: Buffer, bits: int, count: int) -> bytes: ...
def digest(data: Buffer, /) -> bytes:
    """Return 32 bytes that tell buffers of a size apart: surely those that differ in one place."""
