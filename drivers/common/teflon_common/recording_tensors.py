"""The tensors of a recorded model: their types, and the inputs of the recorded inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from teflon.errors import RecordingError
from teflon.ir.schema import Malformed, Table, shown
from teflon.ir.types import Array, DType, Quantization, TensorType
from teflon_common.program import FILLED, SIZES
from teflon_common.recording import Recording

P = TypeVar("P")


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


def recorded_port(table: Table[P], row: Mapping[str, Any], recording: Recording) -> P:
    """Return a driver's port from a row of `ports`; it lies inside its buffer.

    `table` declares the driver's ports. Raises RecordingError.
    """
    handle = row["handle"]
    sizes = [bo["size"] for bo in recording.meta["bos"] if bo["handle"] == handle]
    scope = {SIZES: np.array(sizes[-1:], np.int64), FILLED: np.zeros(1, np.int64)}
    try:
        (port,) = table.read([{**row["port"], "buffer": 0}], scope)
        if (end := getattr(port, "end", 0)) > sizes[-1]:
            raise Malformed(f"ends at byte {end}, must end within its buffer of {sizes[-1]}")
    except (Malformed, IndexError) as error:
        raise RecordingError(
            f"{recording.name}: port {shown(row['name'])} in buffer {handle}: {error}"
        ) from error
    return replace(port, buffer=handle)  # type: ignore[type-var]


def tensor_type(tensor: Mapping[str, Any]) -> TensorType:
    """Return the type of a tensor from its row in a recording's `meta`."""
    quantization = None
    if tensor["scales"]:
        axis = None if len(tensor["scales"]) == 1 else len(tensor["shape"]) - 1
        quantization = Quantization(tuple(tensor["scales"]), tuple(tensor["zero_points"]), axis)
    return TensorType(DType.of(tensor["dtype"]), tuple(tensor["shape"]), quantization)
