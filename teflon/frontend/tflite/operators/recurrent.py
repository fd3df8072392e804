"""Operations that keep state: a variable tensor in the file, an operand and a result here."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import DType, Op, ops

# SVDF: input, weights of features and of time, optional bias, the state ------------------------


def _read_svdf(node: NodeView) -> Op:
    node.require(len(node.outputs) == 2, "its state is no variable tensor, must be one")
    x, feature = node.input(0), node.input(1)
    hybrid = x.type.dtype is DType.FLOAT32 and feature.type.dtype is not DType.FLOAT32
    node.require(not hybrid, f"weights are {feature.type.dtype.value} beside f32")
    return ops.Svdf(
        input=x,
        weights_feature=feature,
        weights_time=node.input(2),
        bias=node.optional(3),
        state=node.input(4),
        outputs=node.outputs,
        rank=node.option("rank"),
        activation=node.activation(),
        index=node.index,
    )


def _write_svdf(op: ops.Svdf) -> Written:
    fields = {"rank": op.rank, "fused_activation_function": attributes.activation(op)}
    operands = [op.input, op.weights_feature, op.weights_time, op.bias, op.state]
    return Written(operands, fields, states=[(op.state, op.outputs[1])])


ROWS = (
    Row(
        kind=ops.Svdf, read=_read_svdf, write=_write_svdf, inputs=(5, 5), outputs=None, newest=4,
        version=by_type(i8=3), options="SVDFOptions", states=(4,),
        runtime="rank:i32 fused_activation_function:i32 asymmetric_quantize_inputs:bool",
    ),
)  # fmt: skip
