from typing import Any

from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview | NDArray[Any]

Grid = tuple[int, int, int, int]
"""Rows and columns of the output; from row to row in the image, and in the output."""
Scale = tuple[int, int, bool, int, bool]
"""Multiplier, shift, relu, zero point; whether sum * multiplier is always below 2 ** 53."""

def dense(
    image: Buffer,
    offsets: Buffer,
    weights: Buffer,
    bias: Buffer,
    places: Buffer,
    out: Buffer,
    zero: int,
    grid: Grid,
    scale: Scale,
    lanes: tuple[int, int],
    kernels: tuple[int, int],
    plain: bool = False,
    /,
) -> None:
    """Store the bytes of `kernels` (first, end), for `lanes` (first, end) of sixteen pixels.

    offsets: int32, where the first pixel of each weight lies in the image. weights: uint8 [kernel,
    weight], less `zero`; after an odd number of weights comes one that is `zero`. bias: int32 and
    places: int64 [kernel], where in `out` a kernel's plane begins; below 0 it is not stored. plain:
    without vector instructions that not every machine has; the result is the same.
    """

def single(
    image: Buffer,
    planes: Buffer,
    offsets: Buffer,
    factors: Buffer,
    bias: Buffer,
    places: Buffer,
    out: Buffer,
    grid: Grid,
    scale: Scale,
    kernels: tuple[int, int],
    plain: bool = False,
    /,
) -> None:
    """Store the bytes of `kernels` (first, end), where kernel n sees one plane from planes[n] on.

    planes: int64. offsets: int32, where a tap's first pixel lies in its plane. factors: int16
    [kernel, tap]. The rest is as in `dense`.
    """
