# Ref: docs/hardware/rocket.md §4.1, §4.3, §7.4, §8.2
"""What one task reads, and how the kernel walks over it."""

from dataclasses import dataclass

from teflon.errors import SimulatorFault

ATOM = 16
"""Bytes of one pixel of one surface: 16 int8 channels."""


@dataclass(frozen=True)
class Converter:
    """The input converter; one entry per interleaved channel."""

    add_first: bool
    ties_up: bool
    signed: bool
    scale: tuple[int, ...]
    offset: tuple[int, ...]
    truncate: tuple[int, ...]


@dataclass(frozen=True)
class Features:
    """The input cube in memory. `interleaved` channels per pixel in ARGB mode, else 0."""

    address: int
    rows: int
    width: int
    channels: int
    row_bytes: int
    surface_bytes: int
    interleaved: int
    converter: Converter | None


@dataclass(frozen=True)
class Window:
    """How the kernel walks over the input."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]
    """Rows above, columns left; below and right as much as the output needs."""
    pad_values: tuple[int, int]
    """Of even and odd channels."""
    spread: tuple[int, int] = (1, 1)
    """Distance of the input's rows, and columns; what lies between them has the pad values."""
    repeated: bool = False
    """Whether every window sees the one pixel that the input has."""

    def spans(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the rows and columns of an input of a size once it is spread."""
        rows, columns = ((n - 1) * step + 1 for n, step in zip(size, self.spread, strict=True))
        return rows, columns


@dataclass(frozen=True)
class Weights:
    """The weights in memory."""

    address: int
    size: int
    kernels: int
    kernel: tuple[int, int]
    channels: int
    tail: int
    """Bytes of the rows of the last channel group, where that has fewer channels; else 0."""
    depthwise: bool


def aligned(address: int, name: str) -> None:
    """Raise SimulatorFault unless the address is a multiple of 16 bytes."""
    if address % ATOM:
        raise SimulatorFault(f"{name}: #{address:08x}, must be a multiple of {ATOM}")
