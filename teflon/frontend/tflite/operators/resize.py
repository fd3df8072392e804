"""Make images larger or smaller: input and constant size."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Version, Written, by_type
from teflon.ir import Op, ops

Resize = ops.ResizeBilinear | ops.ResizeNearestNeighbor


def _resize(kind: type[Resize], version: Version) -> Row:
    def read(node: NodeView) -> Op:
        x, size = node.input(0, 4), node.constant(1, "size")
        node.require(len(size) == 2, f"size is {list(size)}, must have 2 numbers")
        out = node.output_shaped((x.shape[0], *size, x.shape[3]))
        node.require(
            size == out.shape[1:3],
            f"size is {list(size)}, must be the output's, {list(out.shape[1:3])}",
        )
        return kind(
            input=x,
            output=out,
            align_corners=bool(node.option("align_corners")),
            half_pixel_centers=bool(node.option("half_pixel_centers")),
            index=node.index,
        )

    return Row(
        kind=kind, read=read, write=_write_resize, inputs=(2, 2), newest=4, version=version,
        options=f"{kind.__name__}Options", runtime="align_corners:bool half_pixel_centers:bool",
    )  # fmt: skip


def _write_resize(op: Resize) -> Written:
    fields = {"align_corners": op.align_corners, "half_pixel_centers": op.half_pixel_centers}
    return Written([op.input, attributes.operand(op, "size", op.output.shape[1:3])], fields)


def _version_of_bilinear(op: ops.ResizeBilinear) -> int:
    return max(by_type(i8=2, i16=4)(op), 3 if op.half_pixel_centers else 1)


def _version_of_nearest(op: ops.ResizeNearestNeighbor) -> int:
    exact = op.half_pixel_centers or op.align_corners
    return max(by_type(i8=2, i16=4)(op), 3 if exact else 1)


ROWS = (
    _resize(ops.ResizeBilinear, _version_of_bilinear),
    _resize(ops.ResizeNearestNeighbor, _version_of_nearest),
)
