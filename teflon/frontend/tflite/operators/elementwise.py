"""Two operands, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Reader, Row, Version, Written, by_type
from teflon.ir import DType, Op, ops

# ADD, SUB, MUL, DIV: two operands and a fused activation -----------------------------------------


def _reads(kind: Callable[..., Op], has_power: bool) -> Reader:
    def read(node: NodeView) -> Op:
        if has_power and node.output.type.dtype is DType.INT16:
            powers = bool(node.option("pot_scale_int16"))
            node.require(not powers, "int16 scales are powers of two, must be general ones")
        return kind(
            a=node.input(0),
            b=node.input(1),
            output=node.output,
            activation=node.activation(),
            index=node.index,
        )

    return read


def _writes(has_power: bool) -> Callable[[Any], Written]:
    def write(op: ops.Add | ops.Sub | ops.Mul | ops.Div) -> Written:
        fields: dict[str, Any] = {"fused_activation_function": attributes.activation(op)}
        if has_power and op.output.type.dtype is DType.INT16:
            fields["pot_scale_int16"] = False
        return Written([op.a, op.b], fields)

    return write


def _version_of_mul(op: ops.Mul) -> int:
    out = op.output.type
    grows = out.quantization is not None and op.a.type.scale * op.b.type.scale >= out.scale
    return max(by_type(i8=2, i16=4)(op), 3 if grows else 1)


def _version_of_div(op: ops.Div) -> int:
    return 2 if op.a.shape != op.b.shape and op.output.type.rank > 4 else 1


def _arithmetic(
    kind: type[ops.Add | ops.Sub | ops.Mul | ops.Div],
    newest: int,
    version: Version,
    has_power: bool = True,
) -> Row:
    power = " pot_scale_int16:bool" if has_power else ""
    return Row(
        kind=kind, read=_reads(kind, has_power), write=_writes(has_power), inputs=(2, 2),
        newest=newest, version=version, options=f"{kind.__name__}Options",
        runtime=f"fused_activation_function:i32{power}",
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
    _arithmetic(ops.Add, 5, by_type(i8=2, i16=3)),
    _arithmetic(ops.Sub, 5, by_type(i8=2, i16=5)),
    _arithmetic(ops.Mul, 7, _version_of_mul, has_power=False),
    _arithmetic(ops.Div, 2, _version_of_div, has_power=False),
    _pair(ops.Maximum, 4, by_type(i8=2, i16=4), "MaximumMinimumOptions"),
    _pair(ops.Minimum, 4, by_type(i8=2, i16=4), "MaximumMinimumOptions"),
    _pair(ops.FloorDiv, 3, by_type(f32=2, i8=3, i16=3), "FloorDivOptions"),
    _pair(ops.SquaredDifference, 2, by_type(i8=2), "SquaredDifferenceOptions"),
)
