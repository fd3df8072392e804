"""Change the shape and keep the elements: pad, reshape, permute."""

from __future__ import annotations

import math

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import Op, ops

_REFLECT, _SYMMETRIC = 0, 1

# PAD, PADV2: input, constant paddings [rank, 2], the value to fill with ---------------------


def _read_pad(node: NodeView) -> Op:
    filled = node.name == "PADV2"
    node.arity(3 if filled else 2, 3 if filled else 2, 1)
    before, after = _paddings(node)
    return ops.Pad(
        input=node.input(0),
        value=node.input(2) if filled else None,
        output=node.output,
        before=before,
        after=after,
        index=node.index,
    )


def _paddings(node: NodeView) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return how many elements each axis gets before and after it."""
    rank, shape = node.input(0).type.rank, node.input(1).shape
    flat = node.constant(1, "paddings")
    node.require(shape == (rank, 2), f"paddings have shape {list(shape)}, must be [{rank}, 2]")
    node.require(min(flat, default=0) >= 0, f"paddings are {list(flat)}, must not be negative")
    return flat[0::2], flat[1::2]


def _write_pad(op: ops.Pad) -> Written:
    paddings = attributes.operand(op, "paddings", list(zip(op.before, op.after, strict=True)))
    if op.value is None:
        return Written([op.input, paddings])
    return Written([op.input, paddings, op.value], name="PADV2", options="PadV2Options")


def _version_of_pad(op: ops.Pad) -> int:
    return by_type(i8=2, i16=3)(op) if op.value is None else by_type(i8=2)(op)


# MIRROR_PAD: input, constant paddings [rank, 2] --------------------------------------------------


def _read_mirror_pad(node: NodeView) -> Op:
    mode = node.option("mode")
    node.require(mode in (_REFLECT, _SYMMETRIC), f"mode is {mode}, must be 0 (REFLECT) or 1"
                 " (SYMMETRIC)")  # fmt: skip
    before, after = _paddings(node)
    return ops.MirrorPad(
        input=node.input(0),
        output=node.output,
        before=before,
        after=after,
        reflect=mode == _REFLECT,
        index=node.index,
    )


def _write_mirror_pad(op: ops.MirrorPad) -> Written:
    paddings = attributes.operand(op, "paddings", list(zip(op.before, op.after, strict=True)))
    return Written([op.input, paddings], {"mode": _REFLECT if op.reflect else _SYMMETRIC})


# TILE: input, constant numbers of repetitions ----------------------------------------------------


def _read_tile(node: NodeView) -> Op:
    multiples = node.constant(1, "multiples")
    return ops.Tile(
        input=node.input(0), output=node.output, multiples=multiples, index=node.index
    )  # fmt: skip


def _write_tile(op: ops.Tile) -> Written:
    return Written([op.input, attributes.operand(op, "multiples", op.multiples)])


# EXPAND_DIMS: input, one constant axis of the result ---------------------------------------------


def _read_expand_dims(node: NodeView) -> Op:
    x, axes = node.input(0), node.constant(1, "axis")
    node.require(len(axes) == 1, f"axis has {len(axes)} numbers, must have 1")
    axis = node.axis(axes[0], x.type.rank + 1)
    return ops.ExpandDims(input=x, output=node.output, axis=axis, index=node.index)


def _write_expand_dims(op: ops.ExpandDims) -> Written:
    return Written([op.input, attributes.operand(op, "axis", op.axis)])


# RESHAPE: the shape is an operand or an option; the output must have it ---------------------


def _read_reshape(node: NodeView) -> Op:
    x = node.input(0)
    if node.optional(1) is not None:
        wanted = node.constant(1, "shape")
    elif node.options_type == "ReshapeOptions":
        wanted = tuple(node.option("new_shape"))
    else:
        wanted = node.output.shape
    out = node.output_shaped(_shape_meant(wanted, x.type.size))
    node.require(
        out.shape in (_shape_meant(wanted, x.type.size), _legacy_scalar(wanted)),
        f"shape is {list(wanted)}, must be the output's, {list(out.shape)}",
    )
    return ops.Reshape(input=x, output=out, index=node.index)


def _write_reshape(op: ops.Reshape) -> Written:
    shape = op.output.shape
    return Written([op.input, attributes.operand(op, "shape", shape)], {"new_shape": shape})


def _shape_meant(wanted: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Return the shape with the number that one -1 stands for."""
    if wanted.count(-1) != 1:
        return wanted
    rest = math.prod(n for n in wanted if n != -1)
    return tuple(size // max(rest, 1) if n == -1 else n for n in wanted)


def _legacy_scalar(wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a scalar for [0], which old converters write for it."""
    return () if wanted == (0,) else None


# SQUEEZE: axes from the options --------------------------------------------------------------


def _read_squeeze(node: NodeView) -> Op:
    x = node.input(0)
    for axis in node.option("squeeze_dims"):
        size = x.shape[axis] if -x.type.rank <= axis < x.type.rank else None
        node.require(
            size == 1,
            f"takes away axis {axis} of {x.name!r}, which has the shape {list(x.shape)}, must be an"
            " axis of size 1",
        )
    axes = {node.axis(a, x.type.rank) for a in node.option("squeeze_dims")}
    return ops.Squeeze(
        input=x, output=node.output, axes=tuple(sorted(axes)), index=node.index
    )  # fmt: skip


def _write_squeeze(op: ops.Squeeze) -> Written:
    return Written([op.input], {"squeeze_dims": op.axes})


# TRANSPOSE: input, constant permutation ------------------------------------------------------


def _read_transpose(node: NodeView) -> Op:
    x = node.input(0)
    perm = tuple(node.axis(a, x.type.rank, "perm") for a in node.constant(1, "perm"))
    node.require(
        sorted(perm) == list(range(x.type.rank)),
        f"perm is {list(perm)}, must name each of {x.type.rank} axes once",
    )
    return ops.Transpose(input=x, output=node.output, perm=perm, index=node.index)


def _write_transpose(op: ops.Transpose) -> Written:
    return Written([op.input, attributes.operand(op, "perm", op.perm)])


ROWS = (
    Row(
        kind=ops.Pad, also=("PADV2",), read=_read_pad, write=_write_pad, inputs=(2, 3), newest=5,
        version=_version_of_pad, options="PadOptions",
    ),
    Row(
        kind=ops.MirrorPad, read=_read_mirror_pad, write=_write_mirror_pad, inputs=(2, 2), newest=3,
        version=by_type(i8=2, i16=3), options="MirrorPadOptions", runtime="mode:mirror",
    ),
    Row(
        kind=ops.Tile, read=_read_tile, write=_write_tile, inputs=(2, 2), newest=3,
        version=by_type(i8=3), options="TileOptions",
    ),
    Row(
        kind=ops.ExpandDims, read=_read_expand_dims, write=_write_expand_dims, inputs=(2, 2),
        options="ExpandDimsOptions",
    ),
    Row(
        kind=ops.Reshape, read=_read_reshape, write=_write_reshape, inputs=(1, 2),
        options="ReshapeOptions", optional=True, runtime="new_shape:[i32]",
    ),
    Row(
        kind=ops.Squeeze, read=_read_squeeze, write=_write_squeeze, inputs=(1, 1), newest=2,
        options="SqueezeOptions", runtime="squeeze_dims:[i32]",
    ),
    Row(
        kind=ops.Transpose, read=_read_transpose, write=_write_transpose, inputs=(2, 2), newest=7,
        version=by_type(i8=2, bool=3, i16=5), options="TransposeOptions",
    ),
)  # fmt: skip
