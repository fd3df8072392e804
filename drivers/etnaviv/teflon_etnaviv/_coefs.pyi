from typing import Any

from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview | NDArray[Any]

V7Shape = tuple[int, int, int, int, int, int, int, int, int, int]

def v7_costs(
    weights: Buffer, bias: Buffer, trailers: Buffer, perm: Buffer, shape: V7Shape
) -> list[tuple[int, ...]]: ...
def v7_stream(
    weights: Buffer,
    bias: Buffer,
    trailers: Buffer,
    perm: Buffer,
    shape: V7Shape,
    core: int,
    width: int,
    bits: int,
) -> bytes: ...
def histogram(data: Buffer) -> bytes: ...
def v8_stream(values: Buffer, symbols: Buffer) -> tuple[bytes, int]: ...
def round_rows(
    data: Buffer, factors: Buffer, shape: tuple[int, int], zero: int, to_zero: int
) -> tuple[bytes, bytes]: ...
