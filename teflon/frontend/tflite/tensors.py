"""Read the tensors of a .tflite file as values; constants are views on the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.access import Place, Table
from teflon.ir import Array, DType, Quantization, TensorType, Value

MAX_RANK = 32
"""numpy's own limit."""
MAX_BYTES = 1 << 40
"""A tensor beyond a terabyte is a mistake, not a model."""

_PACKED = {"INT4": 2, "UINT4": 2, "INT2": 4}  # elements in a byte
_WIDE = {"BFLOAT16": 2, "COMPLEX128": 16}  # bytes of an element

_PLAIN_BYTES = 4  # integers of so many bytes and more are numbers that need no scale


@dataclass(frozen=True, eq=False, repr=False)
class Tensor:
    """One tensor of the file: its value, and why operations that read it are opaque, if so.

    A `flexible` one gets its shape later: the file has none, or one with dynamic dimensions.
    """

    value: Value
    reason: str = ""
    is_variable: bool = False
    flexible: bool = False
    is_resource: bool = False
    is_external: bool = False


def read_tensor(table: Table, number: int, buffers: Sequence[Table]) -> Tensor:
    """Return a tensor; `number` becomes its value's index. Raises ModelError."""
    source = table.source
    source.charge(table.place, 32)
    name = table.text("name") or f"tensor{number}"
    table.place = Place(table.place, f" {name!r}")
    code = table.get("type")
    if not 0 <= code < len(schema.TENSOR_TYPES):
        table.fail("type", f"is {code}, must be below {len(schema.TENSOR_TYPES)}")
    type_name = schema.TENSOR_TYPES[code]
    dtype = schema.DTYPES.get(type_name, DType.OTHER)
    shape = _shape(table, _bytes_each(type_name, dtype))
    raw = _data(table, buffers)
    if raw is not None and table.get("is_variable"):
        table.fail("is_variable", "is true, must be false for a tensor with constant data")
    reason = _reason(table, type_name, dtype)
    if reason and raw is not None:  # opaque bytes: only the runtime of the file can read them
        _check_packed(table, raw, type_name, shape)
        dtype, shape = DType.OTHER, (raw.nbytes,)
    quantization = _quantization(table, dtype, shape)
    data = None if raw is None else _constant(table, raw, dtype, shape)
    value = Value(name, TensorType(dtype, shape, quantization), data, number)
    flexible = data is None and (shape == () or -1 in table.numbers("shape_signature"))
    is_resource = type_name == "RESOURCE"
    is_external = bool(table.get("external_buffer"))
    return Tensor(value, reason, table.get("is_variable"), flexible, is_resource, is_external)


def _bytes_each(type_name: str, dtype: DType) -> int:
    return _WIDE.get(type_name, dtype.numpy.itemsize)


def _reason(table: Table, type_name: str, dtype: DType) -> str:
    """Return why operations on this tensor are not read; empty if they are."""
    if table.has("sparsity"):
        return "is sparse"
    if table.has("quantization"):
        quantization = table.child("quantization")
        if quantization is not None and quantization.get("details_type"):
            return f"has {quantization.union('details') or 'an unknown kind of'} quantisation"
    return f"has type {type_name}" if dtype is DType.OTHER else ""


def _shape(table: Table, item_bytes: int) -> tuple[int, ...]:
    shape: tuple[int, ...] = table.numbers("shape")
    if len(shape) > MAX_RANK:
        table.fail("shape", f"has {len(shape)} dimensions, must have at most {MAX_RANK}")
    if min(shape, default=0) < 0:
        table.fail("shape", f"is {list(shape)}, must not be negative")
    if math.prod(max(n, 1) for n in shape) * item_bytes > MAX_BYTES:  # numpy's limit as well
        table.fail("shape", f"is {list(shape)}, must make at most {MAX_BYTES} bytes")
    _check_signature(table, shape)
    return shape


def _check_signature(table: Table, shape: tuple[int, ...]) -> None:
    """Check that the signature is the shape, or -1 where a dimension is dynamic."""
    signature = table.numbers("shape_signature")
    if not signature or signature == shape:
        return
    if len(signature) != len(shape) or any(
        s not in (-1, n) for s, n in zip(signature, shape, strict=True)
    ):
        shown = list(signature[: MAX_RANK + 1])
        table.fail("shape_signature", f"is {shown}, must be the shape {list(shape)} or -1")


def _data(table: Table, buffers: Sequence[Table]) -> Array | None:
    """Return the bytes of a constant; None for a tensor without data, or with data elsewhere."""
    if table.get("external_buffer"):
        return None
    number = table.get("buffer")
    if number >= len(buffers) and (number or table.has("buffer")):
        table.fail("buffer", f"is {number}, must be below {len(buffers)}, the number of buffers")
    if number >= len(buffers):
        return None
    buffer = buffers[number]
    inside = buffer.vector("data")
    return inside if inside is not None and inside.size else _outside(buffer)


def _outside(buffer: Table) -> Array | None:
    """Return data that lies behind the flatbuffer; 0 and 1 as offset mean that there is none."""
    offset, size = buffer.get("offset"), buffer.get("size")
    if offset <= 1 or size == 0:
        return None
    data: Array = buffer.source.array("u8", offset, size, buffer.at("offset"))
    return data


def _constant(table: Table, raw: Array, dtype: DType, shape: tuple[int, ...]) -> Array:
    want = math.prod(shape) * dtype.numpy.itemsize
    if raw.nbytes != want:
        table.fail("buffer", f"has {raw.nbytes} bytes, must have {want} for"
                   f" {dtype.value}{list(shape)}")  # fmt: skip
    if dtype is DType.BOOL and raw.size and int(raw.max()) > 1:
        table.fail("buffer", f"has a bool of value {int(raw.max())}, must be 0 or 1")
    data = raw.view(dtype.numpy)
    if not data.flags.aligned:
        table.source.charge(table.place, data.nbytes)
        data = data.copy()
        data.flags.writeable = False
    return data.reshape(shape)


def _check_packed(table: Table, raw: Array, type_name: str, shape: tuple[int, ...]) -> None:
    per_byte = _PACKED.get(type_name)
    if per_byte is None or table.has("sparsity"):
        return
    want = -(-math.prod(shape) // per_byte)
    if raw.nbytes != want:
        table.fail("buffer", f"has {raw.nbytes} bytes, must have {want} for"
                   f" {type_name}{list(shape)}")  # fmt: skip


# Quantisation --------------------------------------------------------------------------------


def _quantization(table: Table, dtype: DType, shape: tuple[int, ...]) -> Quantization | None:
    inner = table.child("quantization")
    if inner is None or dtype.numpy.kind not in "iu" or dtype is DType.OTHER:
        return None
    scales = _scales(inner, dtype)
    if not scales:
        return None
    zero_points = _zero_points(inner, len(scales), dtype)
    if len(scales) == 1:
        return Quantization(scales, zero_points)
    # A tensor of one dimension has one axis only: old converters give a bias its weights' number,
    # which TFLite for microcontrollers ignores.
    axis = 0 if len(shape) == 1 else inner.get("quantized_dimension")
    if not 0 <= axis < len(shape):
        inner.fail("quantized_dimension", f"is {axis}, must be an axis of the shape {list(shape)}")
    if shape[axis] != len(scales):
        inner.fail("scale", f"has {len(scales)} values, must have 1 or {shape[axis]}, the size of"
                   f" axis {axis}")  # fmt: skip
    return Quantization(scales, zero_points, axis)


def _scales(inner: Table, dtype: DType) -> tuple[float, ...]:
    """Return scales that are good numbers; no bad ones of 32 bits and more, as TFLite ignores them.

    # Ref: LiteRT 2.3, measured: ADD of int32 with scales 0, -1, inf and nan
    """
    found: tuple[float, ...] = inner.numbers("scale")
    if not (all(map(math.isfinite, found)) and min(found, default=1) > 0):
        if dtype.numpy.itemsize >= _PLAIN_BYTES:
            return ()
        at = next(i for i, scale in enumerate(found) if not 0 < scale < math.inf)
        inner.fail(f"scale[{at}]", f"is {found[at]:g}, must be positive and finite")
    return found


def _zero_points(inner: Table, count: int, dtype: DType) -> tuple[int, ...]:
    found: tuple[int, ...] = inner.numbers("zero_point") or (0,)
    if len(found) not in (1, count):
        inner.fail("zero_point", f"has {len(found)} values, must have {count}, as many as scales")
    low, high = dtype.range
    if min(found) < low or max(found) > high:
        at = next(i for i, n in enumerate(found) if not low <= n <= high)
        inner.fail(f"zero_point[{at}]", f"is {found[at]}, must be within {low} to {high}")
    return found * count if len(found) == 1 else found


def empty_constant(value: Value) -> Value:
    """Return a value of no elements as the constant it is: it needs no buffer."""
    data = np.empty(value.shape, value.type.dtype.numpy)
    data.flags.writeable = False
    return Value(value.name, value.type, data, value.index)


def is_empty(value: Value) -> bool:
    """Whether a value without data has no elements either."""
    return value.data is None and value.type.size == 0
