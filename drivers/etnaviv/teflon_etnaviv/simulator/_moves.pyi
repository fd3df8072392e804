from typing import Any

from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview | NDArray[Any]

def extent(job: Buffer, /) -> tuple[int, int, int, int]:
    """Return first byte and end of what a TP job reads and of what it writes.

    job: the numbers of simulator/tp.py. A job that reads nothing has an end of 0.
    """

def move(image: Buffer, map: Buffer, out: Buffer, job: Buffer, base: int, /) -> None:
    """Run a TP job; `map` gives each byte's output, out[0] is the output at offset `base`."""
