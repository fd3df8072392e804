"""What lowering makes of a graph: tensors as the engines see them, and operations on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from teflon.errors import UnsupportedOperation
from teflon.ir.graph import Op, Value
from teflon.ir.types import DType
from teflon_etnaviv.layer import Layer

F = TypeVar("F")


@dataclass(eq=False)
class Tensor:
    """One tensor of a partition, compared by identity.

    zero_point is that of the unsigned bytes the device computes with: signed tensors are shifted
    by 128. `shape` has four dimensions: the last four of the model's, ones before.
    """

    name: str
    shape: tuple[int, int, int, int]
    scale: np.float32
    zero_point: int
    signed: bool
    constant: bool = False

    @property
    def size_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * self.shape[3]

    @classmethod
    def of(cls, value: Value) -> Tensor:
        """Return the tensor of a graph's value."""
        dims = (1, 1, 1, 1, *value.shape)[-4:]
        signed = value.type.dtype in (DType.INT8, DType.INT16, DType.INT32)
        zero = (value.type.zero_point + (128 if signed else 0)) & 0xFF
        return cls(
            value.name, (dims[0], dims[1], dims[2], dims[3]), np.float32(value.type.scale), zero,
            signed, value.is_constant,
        )  # fmt: skip

    def like(self, name: str, shape: tuple[int, int, int, int] | None = None) -> Tensor:
        """Return a fresh tensor of the same quantisation."""
        shape = shape or self.shape
        return Tensor(name, shape, self.scale, self.zero_point, self.signed)


@dataclass(eq=False)
class Operation:
    """Base of the lowered operations; outputs may be redirected by layout inference."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    name: str = ""


@dataclass(eq=False)
class NN(Operation):
    """One launch of the NN cores. Two inputs (an addition's) lie one behind the other."""

    layer: Layer | None = None

    @property
    def adds(self) -> bool:
        return len(self.inputs) > 1


@dataclass(eq=False)
class TP(Operation):
    """One operation of the TP cores; `kind` is one of those of `tp.py`."""

    kind: str = ""
    same: bool = False  # reshuffle: the convolution pads
    kernel: int = 0  # reshuffle: its kernel's height
    before: tuple[int, int, int] = (0, 0, 0)  # pad: (height, width, channels)
    after: tuple[int, int, int] = (0, 0, 0)
    planar: bool = False  # pad: the input lies in planes
    exact: bool = False  # no job without planes; blocks: padding and sizes as given


@dataclass(eq=False)
class Concat(Operation):
    """No work: the inputs live in the output's buffer."""


@dataclass(eq=False)
class Split(Operation):
    """No work: the outputs live in the input's buffer."""


@dataclass(eq=False)
class Bypass(Operation):
    """No work: the output is the input."""


def form_of(op: Op, forms: Mapping[type[Op], F]) -> F:
    """Return what lowers an operation. Raises UnsupportedOperation where nothing does."""
    found = forms.get(type(op))
    if found is None:
        raise UnsupportedOperation(op.title, ["the etnaviv driver has no form for it"])
    return found


@dataclass(eq=False)
class Lowered:
    """A partition after lowering, in the order of execution."""

    operations: list[Operation]
    inputs: list[Tensor]
    outputs: list[Tensor]
    places: dict[Tensor, tuple[Tensor, int]] = field(default_factory=dict)
    """Tensors that live inside another one, at a byte offset (strategy exact)."""
