"""Operations without work: tensors that live inside another one. Their order decides over buffers.

Ref: docs/hardware/etnaviv.md sections 6.3, 6.4
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from teflon_etnaviv.operations import Operation
from teflon_etnaviv.tensors import Tensor


class Placement(Operation, ABC):
    """Puts some tensors into another one's bytes, one behind the other."""

    @property
    @abstractmethod
    def host(self) -> Tensor:
        """The tensor that has bytes of its own."""

    @property
    @abstractmethod
    def parts(self) -> Sequence[Tensor]:
        """The tensors that lie in it, in order."""


class Concat(Placement):
    """The inputs live in the output."""

    unit: ClassVar[str] = "CONCAT"

    @property
    def host(self) -> Tensor:
        return self.outputs[0]

    @property
    def parts(self) -> Sequence[Tensor]:
        return self.inputs


class Split(Placement):
    """The outputs live in the input."""

    unit: ClassVar[str] = "SPLIT"

    @property
    def host(self) -> Tensor:
        return self.inputs[0]

    @property
    def parts(self) -> Sequence[Tensor]:
        return self.outputs


class Bypass(Split):
    """The output is the input."""

    unit: ClassVar[str] = "BYPASS"
