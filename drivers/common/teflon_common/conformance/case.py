"""A case of the grid: a name, and the function that makes its model."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from teflon.ir.graph import Graph
from teflon_common.conformance.graphs import Random

FORMS = ("u8", "i8", "i8-axis")
"""Quantisations: uint8; int8 with one scale for all weights; int8 with one for each channel."""


@dataclass(frozen=True)
class Case:
    """One model of the grid; the same name always makes the same model and the same inputs."""

    name: str  # "conv2d[in=112x112x120-k=5-s=2-same-u8]"
    op: str  # the operation under test, by its TFLite name; "wirings" for several
    form: str  # one of FORMS
    make: Callable[[Random], Graph]

    @property
    def random(self) -> Random:
        """A new source of random numbers, seeded by the name."""
        return np.random.default_rng(zlib.crc32(self.name.encode()))

    def graph(self) -> Graph:
        """Return the model."""
        return self.make(self.random)


def named(word: str, *parts: str) -> str:
    """Return the name of a case: a word and, in brackets, the parts that are not empty."""
    return f"{word}[{'-'.join(part for part in parts if part)}]"


def size(numbers: int | tuple[int, ...]) -> str:
    """Return one number, or several separated by x, as text."""
    return str(numbers) if isinstance(numbers, int) else "x".join(map(str, numbers))


def dtype_of(form: str) -> str:
    """Return the element type of feature maps in one of FORMS."""
    return form.removesuffix("-axis")
