"""Two operands, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Reader, Row, Version, Written, by_type
from teflon.ir import DType, Op, ops
from teflon.ir.ops.elementwise import power_of_two_shifts

# ADD, SUB, MUL, DIV: two operands and a fused activation -----------------------------------------


def _reads(kind: Callable[..., Op]) -> Reader:
    def read(node: NodeView) -> Op:
        a, b = node.input(0), node.input(1)
        return kind(
            a=a, b=b, output=node.output, activation=node.activation(), index=node.index
        )  # fmt: skip

    return read


def _reads_sum(kind: Callable[..., Op]) -> Reader:
    def read(node: NodeView) -> Op:
        a, b, out = node.input(0), node.input(1), node.output
        powers = power_of_two_shifts(a, b, out) is not None
        return kind(
            a=a,
            b=b,
            output=out,
            activation=node.activation(),
            shifted=powers and bool(node.option("pot_scale_int16")),
            index=node.index,
        )

    return read


def _write(op: ops.Mul | ops.Div) -> Written:
    return Written([op.a, op.b], {"fused_activation_function": attributes.activation(op)})


def _write_sum(op: ops.Add | ops.Sub) -> Written:
    fields: dict[str, Any] = {"fused_activation_function": attributes.activation(op)}
    if op.output.type.dtype is DType.INT16:
        fields["pot_scale_int16"] = op.shifted
    return Written([op.a, op.b], fields)


def _version_of_mul(op: ops.Mul) -> int:
    out = op.output.type
    grows = out.quantization is not None and op.a.type.scale * op.b.type.scale >= out.scale
    return max(by_type(i8=2, i16=4)(op), 3 if grows else 1)


def _version_of_div(op: ops.Div) -> int:
    return 2 if op.a.shape != op.b.shape and op.output.type.rank > 4 else 1


def _sum(kind: type[ops.Add | ops.Sub], newest: int, version: Version) -> Row:
    return Row(
        kind=kind, read=_reads_sum(kind), write=_write_sum, inputs=(2, 2), newest=newest,
        version=version, options=f"{kind.__name__}Options",
        runtime="fused_activation_function:i32 pot_scale_int16:bool",
    )  # fmt: skip


def _product(kind: type[ops.Mul | ops.Div], newest: int, version: Version) -> Row:
    return Row(
        kind=kind, read=_reads(kind), write=_write, inputs=(2, 2), newest=newest, version=version,
        options=f"{kind.__name__}Options", runtime="fused_activation_function:i32",
    )  # fmt: skip


# MAXIMUM and others: two operands ------------------------------------------------------------


_Pair = ops.Maximum | ops.Minimum | ops.FloorDiv | ops.SquaredDifference


def _pair(kind: type[_Pair], newest: int, version: Version, options: str) -> Row:
    def read(node: NodeView) -> Op:
        return kind(a=node.input(0), b=node.input(1), output=node.output, index=node.index)

    def write(op: _Pair) -> Written:
        return Written([op.a, op.b])

    return Row(
        kind=kind, read=read, write=write, inputs=(2, 2), newest=newest, version=version,
        options=options,
    )  # fmt: skip


ROWS = (
    _sum(ops.Add, 5, by_type(i8=2, i16=3)),
    _sum(ops.Sub, 5, by_type(i8=2, i16=5)),
    _product(ops.Mul, 7, _version_of_mul),
    _product(ops.Div, 2, _version_of_div),
    _pair(ops.Maximum, 4, by_type(i8=2, i16=4), "MaximumMinimumOptions"),
    _pair(ops.Minimum, 4, by_type(i8=2, i16=4), "MaximumMinimumOptions"),
    _pair(ops.FloorDiv, 3, by_type(f32=2, i8=3, i16=3), "FloorDivOptions"),
    _pair(ops.SquaredDifference, 2, by_type(i8=2), "SquaredDifferenceOptions"),
)
