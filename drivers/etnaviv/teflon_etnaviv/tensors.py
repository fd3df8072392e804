"""Tensors as the engines see them: four sizes, unsigned bytes, in rows or in planes."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.types import DType

Shape = tuple[int, int, int, int]
"""(batch, height, width, channels)"""
Box = tuple[int, int, int]
"""(x, y, z) of an image in memory: bytes of a row, rows, planes."""


class Layout(enum.Enum):
    """How a tensor's bytes lie: which of (height, width, channels) are x, y and z."""

    ROWS = (2, 1, 0)
    """The channels of a pixel side by side (NHWC)."""
    PLANES = (1, 0, 2)
    """Each channel a plane of its own (NCHW)."""

    @property
    def other(self) -> Layout:
        return Layout.PLANES if self is Layout.ROWS else Layout.ROWS

    def box(self, sizes: tuple[int, ...]) -> Box:
        """Return sizes along (height, width, channels) as sizes along (x, y, z)."""
        x, y, z = self.value
        return sizes[x], sizes[y], sizes[z]


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a partition, compared by identity.

    zero_point is that of the unsigned bytes the device computes with: signed tensors are shifted
    by 128. `shape` has four dimensions, the first one 1: images of a batch lie one below the other.
    """

    name: str
    shape: Shape
    scale: np.float32
    zero_point: int
    signed: bool

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        return self.shape[1], self.shape[2], self.shape[3]

    @property
    def size_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * self.shape[3]

    @classmethod
    def of(cls, value: Value) -> Tensor:
        """Return the tensor of a graph's value."""
        dims = (1, 1, 1, *value.shape)
        height = math.prod(dims[:-2])
        signed = value.type.dtype in (DType.INT8, DType.INT16, DType.INT32)
        zero = (value.type.zero_point + (128 if signed else 0)) & 0xFF
        shape = (1, height, dims[-2], dims[-1])
        return cls(value.name, shape, np.float32(value.type.scale), zero, signed)

    def like(self, name: str, shape: Shape | None = None) -> Tensor:
        """Return a fresh tensor of the same quantisation."""
        return Tensor(name, shape or self.shape, self.scale, self.zero_point, self.signed)
