"""The tensors of a recorded model: their types, and the inputs of the recorded inference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from teflon.ir.types import Array, DType, Quantization, TensorType
from teflon_common.recording import Recording


def seeded_inputs(recording: Recording) -> dict[str, Array]:
    """Return the model inputs of a recording, made from its seed; {} without a seed."""
    seed = recording.meta.get("input_seed")
    if seed is None:
        return {}
    generator = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for tensor in recording.meta["inputs"]:
        dtype, shape = np.dtype(tensor["dtype"]), tensor["shape"]
        if dtype.kind in "iu":
            low, high = np.iinfo(dtype).min, int(np.iinfo(dtype).max) + 1
            made[tensor["name"]] = generator.integers(low, high, shape, dtype=dtype)
        else:
            made[tensor["name"]] = generator.uniform(-1, 1, shape).astype(dtype)
    return made


def tensor_type(tensor: Mapping[str, Any]) -> TensorType:
    """Return the type of a tensor from its row in a recording's `meta`."""
    quantization = None
    if tensor["scales"]:
        axis = None if len(tensor["scales"]) == 1 else len(tensor["shape"]) - 1
        quantization = Quantization(tuple(tensor["scales"]), tuple(tensor["zero_points"]), axis)
    return TensorType(DType.of(tensor["dtype"]), tuple(tensor["shape"]), quantization)
