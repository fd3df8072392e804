"""Axes reduced to one value each: input and constant axes."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import Op, ops


def _read_mean(node: NodeView) -> Op:
    x = node.input(0)
    axes = {node.axis(a, x.type.rank) for a in node.constant(1, "axes")}
    return ops.Mean(
        input=x,
        output=node.output,
        axes=tuple(sorted(axes)),
        keep_dims=bool(node.option("keep_dims")),
        index=node.index,
    )


def _write_mean(op: ops.Mean) -> Written:
    return Written([op.input, attributes.operand(op, "axes", op.axes)], {"keep_dims": op.keep_dims})


ROWS = (
    Row(
        kind=ops.Mean, read=_read_mean, write=_write_mean, inputs=(2, 2), newest=3,
        version=by_type(i8=2, i16=3), options="ReducerOptions", runtime="keep_dims:bool",
    ),
)  # fmt: skip
