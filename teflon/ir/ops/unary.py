"""What functions of one element have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import Multiplier, float32_quotient, lookup_table
from teflon.ir.types import Array, DType, TensorType


@dataclass(frozen=True, eq=False, kw_only=True)
class Unary(Op):
    """One operand, a result of its shape and type."""

    input: Value
    output: Value

    def infer(self) -> tuple[TensorType, ...]:
        return (TensorType(self.input.type.dtype, self.input.shape),)

    def check(self) -> list[str]:
        return rules.quantised(self.input, self.output)

    def rescaled(self, x: Array, multiplier: Multiplier, clamp: tuple[int, int]) -> Array:
        """Return integers less the input's zero point as the output's quantised values."""
        return rules.quantise(multiplier.apply(x), self.output.type, clamp)

    def identity(self) -> Multiplier:
        """Return the factor from the input's scale to the output's: a float32 quotient."""
        return Multiplier.of(float32_quotient(self.input.type.scale, self.output.type.scale))

    def centred(self, x: Array) -> Array:
        """Return quantised values less the input's zero point."""
        return x.astype(np.int64) - self.input.type.zero_point


class Tabulated(Unary):
    """A real function, of float32 or from a table of all 8-bit values."""

    tabulated: ClassVar[tuple[DType, ...]] = rules.EIGHT_BIT

    def missing_kernel(self) -> str:
        return rules.outside(self.input, DType.FLOAT32, *self.tabulated)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        x = rules.present(operands[0])
        if self.input.type.dtype is DType.FLOAT32:
            return (np.asarray(self.real(x)),)
        return (np.asarray(self._table.take(x.view(np.uint8))),)

    @cached_property
    def _table(self) -> Array:
        return lookup_table(self.stepped, self.input.type, self.output.type)

    def real(self, x: Array) -> Array:
        """Return the function of float32 numbers, as float32."""
        raise NotImplementedError(type(self).__name__)

    def stepped(self, x: Array) -> Array:
        """Return what the table of a quantised input holds of these float32 numbers."""
        return self.real(x)
