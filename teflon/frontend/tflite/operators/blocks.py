"""Move blocks of pixels between height and width and another axis."""

from __future__ import annotations

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Version, Written, by_type
from teflon.ir import DType, Op, ops

# SPACE_TO_DEPTH, DEPTH_TO_SPACE: the block's side is an option ----------------------------------


def _depth(kind: type[ops.SpaceToDepth | ops.DepthToSpace]) -> Row:
    def read(node: NodeView) -> Op:
        block = node.option("block_size")
        return kind(input=node.input(0, 4), output=node.output, block=block, index=node.index)

    def write(op: ops.SpaceToDepth | ops.DepthToSpace) -> Written:
        return Written([op.input], {"block_size": op.block})

    return Row(
        kind=kind, read=read, write=write, inputs=(1, 1), newest=2, version=by_type(i8=2),
        options=f"{kind.__name__}Options", runtime="block_size:i32",
    )  # fmt: skip


# SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND: constant block, constant pairs [axes, 2] ------------------


def _batch(kind: type[ops.SpaceToBatch | ops.BatchToSpace], what: str) -> Row:
    def read(node: NodeView) -> Op:
        block, pairs = node.constant(1, "block"), node.constant(2, what)
        shape = node.input(2).shape
        node.require(
            shape == (len(block), 2), f"{what} have shape {list(shape)}, must be [{len(block)}, 2]"
        )
        return kind(
            input=node.input(0),
            output=node.output,
            block=block,
            before=pairs[0::2],
            after=pairs[1::2],
            index=node.index,
        )

    def write(op: ops.SpaceToBatch | ops.BatchToSpace) -> Written:
        pairs = list(zip(op.before, op.after, strict=True))
        block = attributes.operand(op, "block", op.block)
        return Written([op.input, block, attributes.operand(op, what, pairs)])

    return Row(
        kind=kind, read=read, write=write, inputs=(3, 3), newest=4, version=_VERSION,
        options=f"{kind.__name__}NDOptions",
    )  # fmt: skip


def _version_of_batch(op: ops.SpaceToBatch | ops.BatchToSpace) -> int:
    if op.input.type.dtype is DType.INT16:
        return 4
    return 3 if op.input.type.rank != 4 else by_type(i8=2)(op)


_VERSION: Version = _version_of_batch

ROWS = (
    _depth(ops.SpaceToDepth),
    _depth(ops.DepthToSpace),
    _batch(ops.SpaceToBatch, "paddings"),
    _batch(ops.BatchToSpace, "crops"),
)
