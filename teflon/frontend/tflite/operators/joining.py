"""Join several tensors to one, cut one into several."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import Op, ops

# CONCATENATION of at least one operand ------------------------------------------------------


def _read_concatenation(node: NodeView) -> Op:
    return ops.Concatenation(
        inputs=node.all_inputs(),
        output=node.output,
        axis=node.axis(node.option("axis"), node.input(0).type.rank),
        activation=node.activation(),
        index=node.index,
    )


def _write_concatenation(op: ops.Concatenation) -> Written:
    return Written(
        op.inputs, {"axis": op.axis, "fused_activation_function": attributes.activation(op)}
    )


# SPLIT: constant axis, input -----------------------------------------------------------------


def _read_split(node: NodeView) -> Op:
    count = node.option("num_splits")
    node.require(
        count == len(node.outputs), f"num_splits is {count}, must be {len(node.outputs)}, the"
        " number of outputs"
    )  # fmt: skip
    axes, x = node.constant(0, "axis"), node.input(1)
    node.require(len(axes) == 1, f"axis has {len(axes)} numbers, must have 1")
    axis = node.axis(axes[0], x.type.rank)
    return ops.Split(input=x, outputs=node.outputs, axis=axis, index=node.index)


def _write_split(op: ops.Split) -> Written:
    axis = attributes.operand(op, "axis", op.axis)
    return Written([axis, op.input], {"num_splits": len(op.outputs)})


# SPLIT_V: input, constant sizes of which one may be -1, constant axis ----------------------------


def _read_split_v(node: NodeView) -> Op:
    x, sizes, axes = node.input(0), node.constant(1, "sizes", 1024), node.constant(2, "axis")
    node.require(len(axes) == 1, f"axis has {len(axes)} numbers, must have 1")
    node.require(
        len(sizes) == len(node.outputs),
        f"sizes are {len(sizes)} numbers, must be {len(node.outputs)}, the number of outputs",
    )
    axis = node.axis(axes[0], x.type.rank)
    if sizes.count(-1) == 1:
        rest = x.shape[axis] - sum(size for size in sizes if size != -1)
        sizes = tuple(rest if size == -1 else size for size in sizes)
    return ops.SplitV(input=x, outputs=node.outputs, axis=axis, sizes=sizes, index=node.index)


def _write_split_v(op: ops.SplitV) -> Written:
    sizes = attributes.operand(op, "sizes", op.sizes)
    axis = attributes.operand(op, "axis", op.axis)
    return Written([op.input, sizes, axis], {"num_splits": len(op.outputs)})


# PACK: as many operands as the options say ---------------------------------------------------


def _read_pack(node: NodeView) -> Op:
    count = node.option("values_count")
    node.require(count == len(node.inputs), f"values_count is {count}, must be {len(node.inputs)}")
    return ops.Pack(
        inputs=node.all_inputs(),
        output=node.output,
        axis=node.axis(node.option("axis"), node.input(0).type.rank + 1),
        index=node.index,
    )


def _write_pack(op: ops.Pack) -> Written:
    return Written(op.inputs, {"values_count": len(op.inputs), "axis": op.axis})


# UNPACK: as many results as the options say --------------------------------------------------


def _read_unpack(node: NodeView) -> Op:
    x, count = node.input(0), node.option("num")
    node.require(count == len(node.outputs), f"num is {count}, must be {len(node.outputs)}")
    axis = node.axis(node.option("axis"), x.type.rank)
    node.require(x.shape[axis] == count, f"num is {count}, must be the axis size {x.shape[axis]}")
    return ops.Unpack(input=x, outputs=node.outputs, axis=axis, index=node.index)


def _write_unpack(op: ops.Unpack) -> Written:
    return Written([op.input], {"num": len(op.outputs), "axis": op.axis})


ROWS = (
    Row(
        kind=ops.Concatenation, read=_read_concatenation, write=_write_concatenation,
        inputs=(1, None), newest=5, version=by_type(i8=2, i16=3), options="ConcatenationOptions",
        runtime="axis:i32 fused_activation_function:i32",
    ),
    Row(
        kind=ops.Split, read=_read_split, write=_write_split, inputs=(2, 2), outputs=None,
        newest=4, version=by_type(i8=2, i32=3, i16=4), options="SplitOptions",
        runtime="num_splits:i32",
    ),
    Row(
        kind=ops.SplitV, read=_read_split_v, write=_write_split_v, inputs=(3, 3), outputs=None,
        newest=3, version=by_type(i8=2), options="SplitVOptions", runtime="num_splits:i32",
    ),
    Row(
        kind=ops.Pack, read=_read_pack, write=_write_pack, inputs=(1, None), newest=4,
        version=by_type(i8=2, i16=3), options="PackOptions", runtime="values_count:i32 axis:i32",
    ),
    Row(
        kind=ops.Unpack, read=_read_unpack, write=_write_unpack, inputs=(1, 1), outputs=None,
        newest=4, version=by_type(i8=2, u8=2, bool=3, i16=4), options="UnpackOptions",
        runtime="num:i32 axis:i32",
    ),
)  # fmt: skip
