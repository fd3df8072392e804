"""Between real numbers and quantised ones, and between two quantisations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from teflon.ir.graph import Op, Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantize(Op):
    """float32 to quantised, or quantised to another quantisation."""

    mnemonic: ClassVar[str] = "quantize"
    tflite_name: ClassVar[str] = "QUANTIZE"

    input: Value
    output: Value


@dataclass(frozen=True, eq=False, kw_only=True)
class Dequantize(Op):
    """Quantised to float32."""

    mnemonic: ClassVar[str] = "dequantize"
    tflite_name: ClassVar[str] = "DEQUANTIZE"

    input: Value
    output: Value
