"""Types of tensors that come from files: what a type may be, checked where it is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from teflon.ir.schema import LARGEST, Malformed, Number, Real, shown
from teflon.ir.types import DType, Quantization, TensorType

AXES = 32
"""The largest rank of a tensor: that of numpy's arrays in all versions."""


def countable(shape: Sequence[int], width: int) -> bool:
    """Whether numpy can have an array of this shape with elements of so many bytes, if there is
    memory: also an empty one must not be too large along its other axes.
    """
    return math.prod(max(size, 1) for size in shape) * width <= LARGEST


def tensor_type(dtype: Any, shape: Any, quantization: Any, dynamic: Any = False) -> TensorType:
    """Return a type from JSON; quantization: None, or [scales, zero points, axis].

    Raises Malformed.
    """
    if type(dtype) is not str or dtype not in _DTYPES:
        raise Malformed(f"dtype is {shown(dtype)}, must be one of {', '.join(_DTYPES)}")
    if not _listed(shape) or len(shape) > AXES or (shape and _SIZE.wrong(shape, {}, {})):
        raise Malformed(
            f"shape is {shown(shape)}, must be at most {AXES} whole numbers of 0 or more"
        )
    if type(dynamic) is not bool:
        raise Malformed(f"dynamic is {shown(dynamic)}, must be true or false")
    found = TensorType(_DTYPES[dtype], tuple(shape), _quantization(quantization, shape), dynamic)
    if not countable(shape, found.dtype.numpy.itemsize):
        raise Malformed(f"shape is {shown(shape)}, must have at most {LARGEST} bytes")
    return found


_DTYPES = {dtype.value: dtype for dtype in DType}
_SIZE = Number(0, LARGEST)
_SCALE = Real(0, float(np.finfo(np.float32).max))
_ZERO = Number(-(1 << 63))


def _quantization(plain: Any, shape: Sequence[int]) -> Quantization | None:
    if plain is None:
        return None
    if not _listed(plain) or len(plain) != 3 or not all(map(_listed, plain[:2])):
        raise Malformed(f"quantization is {shown(plain)}, must be scales, zero points and axis")
    scales, zeros, axis = plain
    if axis is not None and (type(axis) is not int or not 0 <= axis < len(shape)):
        raise Malformed(f"axis is {shown(axis)}, must be one of {list(shape)}")
    wanted = 1 if axis is None else shape[axis]
    if not len(scales) == len(zeros) == wanted:
        raise Malformed(
            f"has {len(scales)} scales and {len(zeros)} zero points, must have {wanted}"
        )
    if scales and (_SCALE.wrong(scales, {}, {}) or _ZERO.wrong(zeros, {}, {})):
        raise Malformed(f"scales are {shown(scales)}, zero points {shown(zeros)}, must be finite"
                        " and whole numbers")  # fmt: skip
    return Quantization(tuple(map(float, scales)), tuple(zeros), axis)


def _listed(plain: object) -> bool:
    return type(plain) in (list, tuple)
