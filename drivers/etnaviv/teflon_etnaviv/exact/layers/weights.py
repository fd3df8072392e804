"""Weights and scale of a layer, as strategy exact takes them from the graph."""

from __future__ import annotations

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.types import DType
from teflon_etnaviv.nn.layer import Weights
from teflon_etnaviv.nn.weights import raw_bytes


def unsigned_weights(value: Value) -> Weights:
    """Return a constant's bytes as unsigned numbers with their zero point (B8)."""
    signed = value.type.dtype is DType.INT8
    data = raw_bytes(value)
    zero = (value.type.zero_point + (128 if signed else 0)) & 0xFF
    return Weights(np.bitwise_xor(data, np.uint8(0x80)) if signed else data, zero, zero)


def output_scale(a: float, b: float, out: float) -> np.float32:
    """Return a * b / out, rounded once."""
    return np.float32(a * b / out)
