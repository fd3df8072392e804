"""Reduce axes to one value each."""

from __future__ import annotations

from teflon.frontend.tflite import schema
from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Version, Written, by_type
from teflon.ir import Op, ops

# MEAN, SUM, REDUCE_MAX, REDUCE_MIN: input and constant axes -------------------------------------

_Reduction = ops.Mean | ops.Sum | ops.ReduceMax | ops.ReduceMin


def _reduction(kind: type[_Reduction], newest: int, version: Version) -> Row:
    def read(node: NodeView) -> Op:
        x = node.input(0)
        axes = {node.axis(a, x.type.rank) for a in node.constant(1, "axes")}
        return kind(
            input=x,
            output=node.output,
            axes=tuple(sorted(axes)),
            keep_dims=bool(node.option("keep_dims")),
            index=node.index,
        )

    def write(op: _Reduction) -> Written:
        axes = attributes.operand(op, "axes", op.axes)
        return Written([op.input, axes], {"keep_dims": op.keep_dims})

    return Row(
        kind=kind, read=read, write=write, inputs=(2, 2), newest=newest, version=version,
        options="ReducerOptions", runtime="keep_dims:bool",
    )  # fmt: skip


# ARG_MAX, ARG_MIN: input, one constant axis; the type of the output is an option too -----------


def _place(kind: type[ops.ArgMax | ops.ArgMin]) -> Row:
    def read(node: NodeView) -> Op:
        x, axes, out = node.input(0), node.constant(1, "axis"), node.output
        node.require(len(axes) == 1, f"axis has {len(axes)} numbers, must have 1")
        code, want = node.option("output_type"), schema.TYPE_CODES.get(out.type.dtype)
        node.require(code == want, f"output_type is {code}, must be {want}, the output's")
        axis = node.axis(axes[0], x.type.rank)
        return kind(input=x, output=out, axis=axis, index=node.index)

    def write(op: ops.ArgMax | ops.ArgMin) -> Written:
        axis = attributes.operand(op, "axis", op.axis)
        return Written([op.input, axis], {"output_type": schema.TYPE_CODES[op.output.type.dtype]})

    return Row(
        kind=kind, read=read, write=write, inputs=(2, 2), newest=3, version=by_type(i8=2, bool=3),
        options=f"{kind.__name__}Options", runtime="output_type:type",
    )  # fmt: skip


ROWS = (
    _reduction(ops.Mean, 3, by_type(i8=2, i16=3)),
    _reduction(ops.Sum, 2, by_type(i8=2)),
    _reduction(ops.ReduceMax, 3, by_type(i8=2, i16=3)),
    _reduction(ops.ReduceMin, 3, by_type(i8=2, i16=3)),
    _place(ops.ArgMax),
    _place(ops.ArgMin),
)
