"""Weights and scale of a layer, as Mesa takes them from the file."""

from __future__ import annotations

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.types import DType
from teflon_etnaviv.nn.layer import Weights
from teflon_etnaviv.nn.weights import raw_bytes
from teflon_etnaviv.tensors import Tensor


def file_weights(value: Value) -> Weights:
    """Return the bytes as they are in the file (on V7 this is B8), with an unsigned zero point."""
    signed = value.type.dtype is DType.INT8
    zero = (value.type.zero_point + (128 if signed else 0)) & 0xFF
    return Weights(raw_bytes(value), zero, (zero - 128 * signed) & 0xFF, signed)


def output_scale(a: Value, weights: Value, out: Tensor) -> np.float32:
    """Return the product of two scales over that of the output, rounded after each step."""
    return np.float32(np.float32(a.type.scale) * np.float32(weights.type.scale) / out.scale)
