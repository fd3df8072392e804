"""Element types, numpy arrays of constants, and tensors as records.

# Ref: onnx/onnx.proto (TensorProto.DataType)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from teflon.ir.types import DType

FLOAT = 1
UINT8 = 2
INT8 = 3
INT32 = 6
INT64 = 7

DTYPES: Mapping[int, DType] = {
    1: DType.FLOAT32, 2: DType.UINT8, 3: DType.INT8, 4: DType.UINT16, 5: DType.INT16,
    6: DType.INT32, 7: DType.INT64, 9: DType.BOOL, 10: DType.FLOAT16, 11: DType.FLOAT64,
    12: DType.UINT32, 13: DType.UINT64, 14: DType.COMPLEX64,
}  # fmt: skip
"""Element types that the IR has; all others are DType.OTHER."""

CODES: Mapping[DType, int] = {dtype: code for code, dtype in DTYPES.items()}

MAX_RANK = 32
MAX_ELEMENTS = 1 << 38
"""A tensor beyond this is a mistake, not a model."""


def dtype_of(code: int) -> DType:
    """Return the IR's element type for a number of ONNX."""
    return DTYPES.get(code, DType.OTHER)


def shape_problem(shape: Sequence[int]) -> str:
    """Return what is wrong with a shape, empty if nothing is."""
    if len(shape) > MAX_RANK:
        return f"has {len(shape)} dimensions, must have at most {MAX_RANK}"
    if min(shape, default=0) < 0:
        return f"has the shape {list(shape)}, must not be negative"
    if math.prod(shape) > MAX_ELEMENTS:
        return f"has the shape {list(shape)}, must have at most {MAX_ELEMENTS} elements"
    return ""


@dataclass(frozen=True)
class QType:
    """How a file quantises a tensor: real = scale * (q - zero_point).

    Several scales run along `axis` of the tensor as the file has it; one scale has axis None.
    """

    dtype: DType
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None

    @property
    def scale(self) -> float:
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        return self.zero_points[0]
