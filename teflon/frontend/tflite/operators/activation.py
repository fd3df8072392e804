"""Activation functions that stand alone: one operand."""

from __future__ import annotations

from typing import Any

from teflon.frontend.tflite.node import NodeView, float32
from teflon.frontend.tflite.operators.row import Row, Version, Written, by_type, first_version
from teflon.ir import Op, ops


def _unary(
    kind: type[Any], newest: int, version: Version = first_version, options: str = ""
) -> Row:  # fmt: skip
    """Return the row of an operation that has one operand and no attributes."""

    def read(node: NodeView) -> Op:
        made: Op = kind(input=node.input(0), output=node.output, index=node.index)
        return made

    def write(op: Any) -> Written:
        return Written([op.input])

    return Row(
        kind=kind, read=read, write=write, inputs=(1, 1), newest=newest, version=version,
        options=options,
    )  # fmt: skip


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
    _unary(ops.Abs, 5, by_type(i8=2, i16=3, i32=4), "AbsOptions"),
    _unary(ops.HardSwish, 1, options="HardSwishOptions"),
    _unary(ops.Logistic, 3, by_type(i8=2, i16=3)),
    _unary(ops.Relu, 3, by_type(i8=2, u8=2, i16=3)),
    _unary(ops.Relu6, 3, by_type(i8=2, i16=3)),
    _unary(ops.ReluN1To1, 1),
    _unary(ops.Tanh, 3, by_type(i8=2, i16=3)),
    Row(
        kind=ops.LeakyRelu, read=_read_leaky_relu, write=_write_leaky_relu, inputs=(1, 1),
        newest=2, version=by_type(i8=2, i16=2), options="LeakyReluOptions", runtime="alpha:f32",
    ),
    Row(
        kind=ops.Softmax, read=_read_softmax, write=_write_softmax, inputs=(1, 1),
        newest=3, version=by_type(i8=2, i16=3), options="SoftmaxOptions", runtime="beta:f32",
    ),
)  # fmt: skip
