from typing import Any

from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview | NDArray[Any]

def window(
    image: Buffer,
    out: Buffer,
    shape: tuple[int, int, int, int, int],
    start: tuple[int, int],
    phase: tuple[int, int],
    step: int,
    border: int,
    /,
) -> None:
    """Copy what the taps of an NN instruction see: [plane, phase row, phase column, row, column].

    shape: planes, rows, columns, bytes from plane to plane and from row to row. start: row and
    column of the first tap, which may lie outside. phase: rows and columns of a phase; phase
    (a, b) of step * step has rows a, a + step, ... and columns b, b + step, ... from there on.
    """
