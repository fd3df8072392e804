"""Scales so far apart that the kernels' arithmetic has no result: C leaves it undefined."""

# Ref: TFLite, tensorflow/lite/kernels/internal/common.h (shifts of at most 30 bits)

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from teflon.ir.graph import Op, Value
from teflon.ir.ops import Mul
from teflon.ir.types import DType

_MOST = 2.0**31
_WIDE = (DType.INT32, DType.INT64)


def too_far(op: Op) -> str:
    """Return why the scales of an operation have no arithmetic; empty where they have."""
    return next(_problems(op), "")


def _problems(op: Op) -> Iterator[str]:
    with np.errstate(all="ignore"):
        inputs = {v.name: _scale(v) for v in op.inputs_present if _is_quantized(v)}
        outputs = {v.name: _scale(v) for v in op.results if _is_quantized(v)}
        for name, scale in (*inputs.items(), *outputs.items()):
            if not np.isfinite(scale * np.float32(256)):
                yield f"{name!r} has scale {scale:g}, a byte of it must be a float32"
        weights = getattr(op, "weights", None)
        if (weights is not None or isinstance(op, Mul)) and len(inputs) > 1:
            inputs = {"the product": np.prod([*inputs.values()][:2], dtype=np.float32)}
        for name, scale in inputs.items():
            for result, step in outputs.items():
                if not scale / step < _MOST:
                    yield (
                        f"a step of {name} is {scale / step:g} steps of {result!r}, must be below"
                        " 2^31"
                    )


def _is_quantized(value: Value) -> bool:
    return value.type.quantization is not None and value.type.dtype not in _WIDE


def _scale(value: Value) -> np.float32:
    assert value.type.quantization is not None
    return np.float32(max(value.type.quantization.scales))
