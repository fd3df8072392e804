"""A model as its file numbers it: every tensor and every node, used or not.

Passes change a graph, but not its listing, which stays equal to what other tools show of the file.
A reader makes one only if TEFLON_DEBUG=verbose is to print it.
"""

from __future__ import annotations

from dataclasses import dataclass

from teflon.ir.types import Activation, TensorType


@dataclass(frozen=True)
class ListedTensor:
    """A tensor of the file; its number is its place in the list."""

    type: TensorType
    is_constant: bool


@dataclass(frozen=True)
class ListedNode:
    """An operator of the file; operands and results are numbers of tensors, -1 for none.

    `number` is its place in the file, -1 for one that a pass made; `version` 0 is not known.
    """

    number: int
    name: str  # TFLite's: "CONV_2D", or a custom operator's own
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: Activation = Activation.NONE
    dilation: tuple[int, int] = (1, 1)  # rows, columns


@dataclass(frozen=True)
class Listing:
    """All tensors and nodes of a model."""

    tensors: tuple[ListedTensor, ...]
    nodes: tuple[ListedNode, ...]
