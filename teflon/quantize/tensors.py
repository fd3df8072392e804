"""What a float model takes, and the samples that calibrate it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from teflon.ir.types import Array

NHWC, NCHW = "NHWC", "NCHW"

Sample = Mapping[str, Array]
"""An array for each input of a model, by name, with the batch axis."""


@dataclass(frozen=True)
class Input:
    """An input of a float model; None in the shape for a size that the file leaves open."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    layout: str = NHWC
    """Where models of this format have the channels of pictures."""

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"

    @property
    def batch(self) -> int:
        """How many rows the first axis has in one sample; 1 where that is open or no axis is."""
        return (self.shape[0] or 1) if self.shape else 1


class Samples(Protocol):
    """Calibration data: the same samples in the same order each time it is read."""

    @property
    def source(self) -> str:
        """What it is and how it was read, for people."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sample]: ...
