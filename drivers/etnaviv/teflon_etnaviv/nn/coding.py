"""What a strategy decides about a layer: the order and coding of its weights, and its scale.

Each strategy has one implementation: `exact/coding.py`, `mesa/coding.py`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from teflon_etnaviv.chips import Chip
from teflon_etnaviv.nn.layer import U8, Layer


class Order(enum.IntEnum):
    """How the weights of a superblock's kernels follow one another in a V7 stream.

    Ref: docs/hardware/etnaviv.md section 7.2
    """

    SIX = 0
    INTERLEAVED = 1
    SEQUENTIAL = 2


@dataclass(frozen=True)
class Scale:
    """Output scale as the instruction has it: acc * (1 + multiplier / 2^bits) >> shift.

    Ref: docs/hardware/etnaviv.md section 4.7
    """

    multiplier: int
    shift: int  # 7 bits, modulo 128


@dataclass(frozen=True)
class Coefficients:
    """A filled coefficient buffer.

    data: the bytes to write; size_bytes: what Mesa asks of the kernel for them; cache_bytes: what
    the on-chip SRAM must hold to have them all.
    """

    data: bytes
    size_bytes: int
    cache_bytes: int


class LayerCoding(ABC):
    """How a strategy writes the instruction and the coefficients of a layer."""

    @abstractmethod
    def kernel_axes(self, layer: Layer) -> tuple[int, int]:
        """Return what the instruction gets as columns and rows of a kernel."""

    @abstractmethod
    def scale(self, scale: np.float32, chip: Chip) -> Scale:
        """Return multiplier and shift of a positive output scale."""

    @abstractmethod
    def column_parts(self, layer: Layer, order: Order) -> Sequence[range]:
        """Return the columns of a kernel in the groups in which a V7 core takes two rows of them.

        Ref: docs/hardware/etnaviv.md section 7.2
        """

    @abstractmethod
    def run_widths(self, layer: Layer, chip: Chip, costs: Sequence[Sequence[int]]) -> Sequence[int]:
        """Return the bits of a zero run's length for each core of V7.

        costs: for each core the bits of its stream with a width of 0, 1, 2...
        """

    @abstractmethod
    def symbol_map(self, layer: Layer, values: Sequence[U8]) -> list[int]:
        """Return the number of bits that each of V8's eight symbols announces.

        values: what each core's stream codes.
        """
