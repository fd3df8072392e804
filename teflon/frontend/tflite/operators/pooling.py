"""Reduce windows of an image to one value each."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView, spatial
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import Op, ops

Pool = ops.AveragePool2D | ops.MaxPool2D


def _pool(kind: type[Pool]) -> Row:
    def read(node: NodeView) -> Op:
        x, stride = node.input(0, 4), node.pair("stride_{}")
        kernel = int(node.option("filter_height")), int(node.option("filter_width"))
        node.require(min(kernel) >= 1, f"filter is {list(kernel)}, must be at least 1")
        return kind(
            input=x,
            output=node.output,
            kernel=kernel,
            stride=stride,
            padding=node.padding(spatial(x), kernel, stride),
            activation=node.activation(),
            index=node.index,
        )

    return Row(
        kind=kind, read=read, write=_write_pool, inputs=(1, 1), newest=3,
        version=by_type(i8=2, i16=3), options="Pool2DOptions",
        runtime="padding:padding stride_w:i32 stride_h:i32 filter_width:i32 filter_height:i32"
                " fused_activation_function:i32",
    )  # fmt: skip


def _write_pool(op: Pool) -> Written:
    fields = {
        "padding": attributes.padding(op, spatial(op.input), op.kernel),
        **attributes.strides(op),
        "filter_height": op.kernel[0],
        "filter_width": op.kernel[1],
        "fused_activation_function": attributes.activation(op),
    }
    return Written([op.input], fields)


ROWS = (_pool(ops.AveragePool2D), _pool(ops.MaxPool2D))
