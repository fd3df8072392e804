"""Products of two computed matrices."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import Op, ops


def _read_batch_matmul(node: NodeView) -> Op:
    return ops.BatchMatMul(
        a=node.input(0),
        b=node.input(1),
        output=node.output,
        adj_a=bool(node.option("adj_x")),
        adj_b=bool(node.option("adj_y")),
        index=node.index,
    )


def _write_batch_matmul(op: ops.BatchMatMul) -> Written:
    return Written([op.a, op.b], {"adj_x": op.adj_a, "adj_y": op.adj_b})


ROWS = (
    Row(
        kind=ops.BatchMatMul, read=_read_batch_matmul, write=_write_batch_matmul, inputs=(2, 2),
        newest=4, version=by_type(i8=2, i16=3), options="BatchMatMulOptions",
        runtime="adj_x:bool adj_y:bool asymmetric_quantize_inputs:bool",
    ),
)  # fmt: skip
