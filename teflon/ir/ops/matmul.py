"""Products of two computed matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import rules
from teflon.ir.quantized import Multiplier, convolution_factor, wrap_int32
from teflon.ir.types import Array, DType, TensorType


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchMatMul(Op):
    """Matrix products of the last two axes of a and b; the axes before them broadcast.

    With `adj_a` (`adj_b`) the matrices of a (of b) are transposed first.

    # Ref: LiteRT 2.3, tflite/kernels/batch_matmul.cc
    """

    mnemonic: ClassVar[str] = "batch_matmul"
    tflite_name: ClassVar[str] = "BATCH_MATMUL"

    a: Value
    b: Value
    output: Value
    adj_a: bool = False
    adj_b: bool = False

    def infer(self) -> tuple[TensorType, ...]:
        for value in (self.a, self.b):
            if value.type.rank < 2:
                raise ValueError(f"{rules.describe(value)}, must have 2 dimensions or more")
        rows, inner = self.a.shape[-2:][:: -1 if self.adj_a else 1]
        depth, columns = self.b.shape[-2:][:: -1 if self.adj_b else 1]
        if inner != depth:
            raise ValueError(
                f"{rules.describe(self.a)} and {rules.describe(self.b)} have inner sizes {inner}"
                f" and {depth}, must have one"
            )
        try:
            before = np.broadcast_shapes(self.a.shape[:-2], self.b.shape[:-2])
        except ValueError:
            raise ValueError(
                f"{rules.describe(self.a)} and {rules.describe(self.b)}, must broadcast before"
                " their last two axes"
            ) from None
        return (TensorType(self.a.type.dtype, (*before, rows, columns)),)

    def check(self) -> list[str]:
        return [
            *rules.same_dtype(self.a, self.b),
            *rules.quantised(self.a, self.b, self.output),
        ]

    @property
    def macs(self) -> int:
        inner = self.a.shape[-2:][0 if self.adj_a else -1 :][:1] or (0,)
        return self.output.type.size * inner[0]

    def missing_kernel(self) -> str:
        if self.a.type.dtype in (DType.FLOAT32, DType.INT8):
            return ""
        return rules.no_kernel(self.a, self.b)

    def compute(self, *operands: Array | None) -> tuple[Array, ...]:
        a, b = rules.present(operands[0]), rules.present(operands[1])
        a, b = (np.swapaxes(a, -1, -2) if self.adj_a else a,
                np.swapaxes(b, -1, -2) if self.adj_b else b)  # fmt: skip
        if self.a.type.dtype is DType.FLOAT32:
            return ((a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32),)
        # Products of 8-bit numbers add up exactly in float64, up to 2**37 of them.
        sums = (a - np.float64(self.a.type.zero_point)) @ (b - np.float64(self.b.type.zero_point))
        y = self.output.type
        factor = Multiplier.of(convolution_factor(self.a.type, self.b.type, y))
        scaled = factor.apply(wrap_int32(sums.astype(np.int64)))
        return (rules.quantise(scaled, y, y.dtype.range),)
