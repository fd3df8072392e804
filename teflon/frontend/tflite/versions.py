"""Which version of a builtin operator is the first that can do what an operation asks.

# Ref: LiteRT, tflite/tools/versioning/op_version.cc (the operators that the IR has)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.ir import DType, Op, TensorType

_BY_TYPE: dict[str, dict[DType, int]] = {
    "AVERAGE_POOL_2D": {DType.INT8: 2, DType.INT16: 3},
    "CONCATENATION": {DType.INT8: 2, DType.INT16: 3},
    "LEAKY_RELU": {DType.INT8: 2, DType.INT16: 2},
    "LOGISTIC": {DType.INT8: 2, DType.INT16: 3},
    "MAX_POOL_2D": {DType.INT8: 2, DType.INT16: 3},
    "MAXIMUM": {DType.INT8: 2, DType.INT16: 4},
    "MEAN": {DType.INT8: 2, DType.INT16: 3},
    "MINIMUM": {DType.INT8: 2, DType.INT16: 4},
    "PACK": {DType.INT8: 2, DType.INT16: 3},
    "PAD": {DType.INT8: 2, DType.INT16: 3},
    "PADV2": {DType.INT8: 2},
    "RELU": {DType.INT8: 2, DType.UINT8: 2, DType.INT16: 3},
    "RELU6": {DType.INT8: 2, DType.INT16: 3},
    "SLICE": {DType.INT8: 2, DType.INT16: 4},
    "SOFTMAX": {DType.INT8: 2, DType.INT16: 3},
    "SPLIT": {DType.INT8: 2, DType.INT32: 3, DType.INT16: 4},
    "TANH": {DType.INT8: 2, DType.INT16: 3},
    "TRANSPOSE": {DType.INT8: 2, DType.BOOL: 3, DType.INT16: 5},
    "UNPACK": {DType.INT8: 2, DType.UINT8: 2, DType.BOOL: 3, DType.INT16: 4},
}
"""Operator -> version by the first data operand's element type; 1 where it is not listed."""


def version_of(name: str, op: Any) -> int:
    """Return the version to write for an operation of the IR under a builtin operator's name."""
    rule = _RULES.get(name)
    if rule is not None:
        return rule(op)
    return _BY_TYPE.get(name, {}).get(_first(op).dtype, 1)


def _first(op: Op) -> TensorType:
    return op.inputs_present[0].type


def _by_type(kind: TensorType, **versions: int) -> int:
    return versions.get(kind.dtype.value, 1)


def _per_axis(kind: TensorType) -> bool:
    return kind.quantization is not None and kind.quantization.per_axis


def _conv2d(op: Any) -> int:
    dilated = 2 if op.dilation != (1, 1) else 1
    return max(dilated, _by_type(op.input.type, i8=3, i16=4))


def _depthwise(op: Any) -> int:
    dilated = 2 if op.dilation != (1, 1) else 1
    return max(dilated, _by_type(op.input.type, i8=3, i16=5))


def _fully_connected(op: Any) -> int:
    needs = [_by_type(op.input.type, i8=4, i16=7)]
    needs += [5] * op.keep_num_dims + [6] * (op.bias is None)
    needs += [12] * _per_axis(op.weights.type)
    return max(needs)


def _transpose_conv(op: Any) -> int:
    needs = [_by_type(op.input.type, i8=2)]
    needs += [3] * (op.bias is not None) + [4] * (op.activation.value != "none")
    return max(needs)


def _add(op: Any) -> int:
    return _by_type(op.output.type, i8=2, i16=3)


def _sub(op: Any) -> int:
    return _by_type(op.output.type, i8=2, i16=5)


def _mul(op: Any) -> int:
    out = op.output.type
    grows = out.quantization is not None and op.a.type.scale * op.b.type.scale >= out.scale
    return max(_by_type(out, i8=2, i16=4), 3 if grows else 1)


def _abs(op: Any) -> int:
    return _by_type(op.input.type, i8=2, i16=3, i32=4)


def _resize_bilinear(op: Any) -> int:
    return max(_by_type(op.input.type, i8=2, i16=4), 3 if op.half_pixel_centers else 1)


def _resize_nearest(op: Any) -> int:
    exact = op.half_pixel_centers or op.align_corners
    return max(_by_type(op.input.type, i8=2, i16=4), 3 if exact else 1)


def _strided_slice(op: Any) -> int:
    rank5 = 4 if op.input.type.rank > 4 else 1
    return max(rank5, _by_type(op.input.type, i8=2, bool=3))


def _quantize(op: Any) -> int:
    if _per_axis(op.output.type):
        return 3
    return 2 if DType.INT16 in (op.input.type.dtype, op.output.type.dtype) else 1


def _dequantize(op: Any) -> int:
    if _per_axis(op.input.type):
        return 5
    return _by_type(op.input.type, i8=2, i16=3, f16=3)


_RULES: dict[str, Callable[[Any], int]] = {
    "ABS": _abs,
    "ADD": _add,
    "CONV_2D": _conv2d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "FULLY_CONNECTED": _fully_connected,
    "MUL": _mul,
    "QUANTIZE": _quantize,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": _resize_nearest,
    "STRIDED_SLICE": _strided_slice,
    "SUB": _sub,
    "TRANSPOSE_CONV": _transpose_conv,
}

LATEST: dict[str, int] = {
    "ABS": 5,
    "ADD": 5,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 5,
    "CONV_2D": 8,
    "DEPTHWISE_CONV_2D": 7,
    "DEQUANTIZE": 8,
    "FULLY_CONNECTED": 14,
    "HARD_SWISH": 1,
    "LEAKY_RELU": 2,
    "LOGISTIC": 3,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MUL": 7,
    "PACK": 4,
    "PAD": 5,
    "PADV2": 5,
    "QUANTIZE": 5,
    "RELU": 3,
    "RELU6": 3,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "SLICE": 7,
    "SOFTMAX": 3,
    "SPLIT": 4,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 8,
    "SUB": 5,
    "TANH": 3,
    "TRANSPOSE": 7,
    "TRANSPOSE_CONV": 5,
    "UNPACK": 4,
}
"""The newest version that is known; a newer one may mean something else by the same options.

# Ref: LiteRT, tflite/core/kernels/register.cc (max_version)
"""
