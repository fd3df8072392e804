"""Activation functions that stand alone: one operand."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView, float32
from teflon.frontend.tflite.operators.row import Row, Written, by_type, unary
from teflon.ir import Op, ops


def _read_prelu(node: NodeView) -> Op:
    return ops.Prelu(
        input=node.input(0), alpha=node.input(1), output=node.output, index=node.index
    )  # fmt: skip


def _write_prelu(op: ops.Prelu) -> Written:
    return Written([op.input, op.alpha])


def _read_leaky_relu(node: NodeView) -> Op:
    alpha = float32(node.option("alpha"))
    return ops.LeakyRelu(input=node.input(0), output=node.output, alpha=alpha, index=node.index)


def _write_leaky_relu(op: ops.LeakyRelu) -> Written:
    return Written([op.input], {"alpha": op.alpha})


def _read_softmax(node: NodeView) -> Op:
    beta = float32(node.option("beta"))
    return ops.Softmax(input=node.input(0), output=node.output, beta=beta, index=node.index)


def _write_softmax(op: ops.Softmax) -> Written:
    return Written([op.input], {"beta": op.beta})


ROWS = (
    unary(ops.Abs, 5, by_type(i8=2, i16=3, i32=4), "AbsOptions"),
    unary(ops.HardSwish, 1, options="HardSwishOptions"),
    unary(ops.Logistic, 3, by_type(i8=2, i16=3)),
    unary(ops.Relu, 3, by_type(i8=2, u8=2, i16=3)),
    unary(ops.Relu6, 3, by_type(i8=2, i16=3)),
    unary(ops.Relu0To1, 1),
    unary(ops.ReluN1To1, 1),
    unary(ops.Tanh, 3, by_type(i8=2, i16=3)),
    Row(kind=ops.Prelu, read=_read_prelu, write=_write_prelu, inputs=(2, 2)),
    Row(
        kind=ops.LeakyRelu, read=_read_leaky_relu, write=_write_leaky_relu, inputs=(1, 1),
        newest=2, version=by_type(i8=2, i16=2), options="LeakyReluOptions", runtime="alpha:f32",
    ),
    Row(
        kind=ops.Softmax, read=_read_softmax, write=_write_softmax, inputs=(1, 1),
        newest=3, version=by_type(i8=2, i16=3), options="SoftmaxOptions", runtime="beta:f32",
    ),
)  # fmt: skip
