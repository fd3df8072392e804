"""Functions of one element that are not activations of old."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators.row import Row, Written, by_type, unary
from teflon.ir import Op, ops


def _read_gelu(node: NodeView) -> Op:
    approximate = bool(node.option("approximate"))
    return ops.Gelu(
        input=node.input(0), output=node.output, approximate=approximate, index=node.index
    )  # fmt: skip


def _write_gelu(op: ops.Gelu) -> Written:
    return Written([op.input], {"approximate": op.approximate})


ROWS = (
    unary(ops.Elu, 1),
    unary(ops.Exp, 2, by_type(i8=2), "ExpOptions"),
    unary(ops.Log, 2, by_type(i8=2)),
    unary(ops.Neg, 1, options="NegOptions"),
    unary(ops.Rsqrt, 3, by_type(i8=2)),
    unary(ops.Sqrt, 2),
    unary(ops.Square, 1, options="SquareOptions"),
    Row(
        kind=ops.Gelu, read=_read_gelu, write=_write_gelu, inputs=(1, 1), newest=3,
        version=by_type(u8=2, i8=2), options="GeluOptions", runtime="approximate:bool",
    ),
)  # fmt: skip
