"""Change of element type: quantise, dequantise, cast."""

from __future__ import annotations

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators.row import Row, Written, by_type, per_axis
from teflon.ir import DType, Op, ops


def _read_quantize(node: NodeView) -> Op:
    out = node.output
    node.require(out.type.quantization is not None, "output has no quantisation, must have one")
    return ops.Quantize(input=node.input(0), output=out, index=node.index)


def _read_dequantize(node: NodeView) -> Op:
    """Read DEQUANTIZE of integers with a scale, and of float16."""
    x = node.input(0)
    plain = x.type.dtype is DType.FLOAT16
    known = plain or x.type.quantization is not None
    node.require(known, f"input is {x.type.dtype.value} without quantisation")
    return ops.Dequantize(input=x, output=node.output, index=node.index)


def _write(op: ops.Quantize | ops.Dequantize) -> Written:
    return Written([op.input])


def _version_of_quantize(op: ops.Quantize) -> int:
    if per_axis(op.output.type):
        return 3
    return 2 if DType.INT16 in (op.input.type.dtype, op.output.type.dtype) else 1


def _version_of_dequantize(op: ops.Dequantize) -> int:
    return 5 if per_axis(op.input.type) else by_type(i8=2, i16=3, f16=3)(op)


def _read_cast(node: NodeView) -> Op:
    """Read CAST. TFLite's kernel goes by the types of the tensors and ignores the options."""
    return ops.Cast(input=node.input(0), output=node.output, index=node.index)


def _write_cast(op: ops.Cast) -> Written:
    types = {"in_data_type": op.input.type.dtype, "out_data_type": op.output.type.dtype}
    return Written([op.input], {name: schema.TYPE_CODES[dtype] for name, dtype in types.items()})


def _version_of_cast(op: ops.Cast) -> int:
    since = {DType.FLOAT64: 5, DType.FLOAT16: 5, DType.UINT16: 4, DType.INT8: 3, DType.UINT32: 2}
    return max(since.get(value.type.dtype, 1) for value in (op.input, op.output))


ROWS = (
    Row(
        kind=ops.Quantize, read=_read_quantize, write=_write, inputs=(1, 1), newest=5,
        version=_version_of_quantize, options="QuantizeOptions",
    ),
    Row(
        kind=ops.Dequantize, read=_read_dequantize, write=_write, inputs=(1, 1), newest=8,
        version=_version_of_dequantize, options="DequantizeOptions",
    ),
    Row(
        kind=ops.Cast, read=_read_cast, write=_write_cast, inputs=(1, 1), newest=9,
        version=_version_of_cast, options="CastOptions", optional=True,
    ),
)  # fmt: skip
