"""A function of one 8-bit value that is given by its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.ops import rules
from teflon.ir.ops.unary import Unary
from teflon.ir.types import Array, TensorType


@dataclass(frozen=True, eq=False, kw_only=True)
class Table(Unary):
    """The element of a table that each 8-bit value names.

    No file has it: passes make it of a chain of operations, and it computes what the chain
    computes. `entries` are 256 bytes, the outputs' by the inputs' bits: the one of int8 -1 is the
    last. `function` is how people call it. Tensors without a scale are numbers as they stand.
    """

    mnemonic: ClassVar[str] = "table"

    entries: bytes
    function: str = "TABLE"

    @property
    def kind_name(self) -> str:
        return self.function

    @property
    def values(self) -> Array:
        """The 256 outputs, in the output's type, by the input's bits."""
        return np.frombuffer(self.entries, self.output.type.dtype.numpy)

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(self.output.type.dtype, self.input.shape),)

    def check(self) -> list[str]:
        problems = [
            *rules.element_type(self.input, *rules.EIGHT_BIT),
            *rules.element_type(self.output, *rules.EIGHT_BIT),
        ]
        if len(self.entries) != 256:
            problems.append(f"has {len(self.entries)} entries, must have 256")
        for value in (self.input, self.output):
            if value.type.quantization is not None:
                problems += rules.quantised(value)
        return problems

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        return (self.values.take(rules.present(operands[0]).view(np.uint8)),)
