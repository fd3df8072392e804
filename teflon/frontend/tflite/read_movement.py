"""Operators that move data: one small function for each, from a NodeView to an Op."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from teflon.frontend.tflite.node import NodeView
from teflon.ir import Op, Value, ops


def concatenation(node: NodeView) -> Op:
    """CONCATENATION of at least one operand."""
    node.arity(1, len(node.inputs))
    node.expect("ConcatenationOptions")
    return ops.Concatenation(
        inputs=node.all_inputs(),
        output=node.output,
        axis=node.axis(node.option("axis"), node.output.type.rank),
        activation=node.activation(),
        index=node.index,
    )


def split(node: NodeView) -> Op:
    """SPLIT: constant axis, input."""
    node.arity(2, outputs=None)
    node.expect("SplitOptions")
    count = node.option("num_splits")
    node.require(
        count == len(node.outputs), f"num_splits is {count}, must be {len(node.outputs)}, the"
        " number of outputs"
    )  # fmt: skip
    axes, x = node.constant(0, "axis"), node.input(1)
    node.require(len(axes) == 1, f"axis has {len(axes)} numbers, must have 1")
    axis = node.axis(axes[0], x.type.rank)
    return ops.Split(input=x, outputs=node.outputs, axis=axis, index=node.index)


def pack(node: NodeView) -> Op:
    """PACK: as many operands as the options say."""
    node.expect("PackOptions")
    node.arity(1, len(node.inputs))
    count = node.option("values_count")
    node.require(count == len(node.inputs), f"values_count is {count}, must be {len(node.inputs)}")
    return ops.Pack(
        inputs=node.all_inputs(),
        output=node.output,
        axis=node.axis(node.option("axis"), node.output.type.rank),
        index=node.index,
    )


def unpack(node: NodeView) -> Op:
    """UNPACK: as many results as the options say."""
    node.arity(1, outputs=None)
    node.expect("UnpackOptions")
    x, count = node.input(0), node.option("num")
    node.require(count == len(node.outputs), f"num is {count}, must be {len(node.outputs)}")
    axis = node.axis(node.option("axis"), x.type.rank)
    node.require(x.shape[axis] == count, f"num is {count}, must be the axis size {x.shape[axis]}")
    return ops.Unpack(input=x, outputs=node.outputs, axis=axis, index=node.index)


def pad(node: NodeView) -> Op:
    """PAD and PADV2: input, constant paddings [rank, 2], the value to fill with."""
    node.arity(3 if node.name == "PADV2" else 2)
    x, shape = node.input(0), node.input(1).shape
    flat = node.constant(1, "paddings")
    node.require(
        shape == (x.type.rank, 2), f"paddings have shape {list(shape)}, must be [{x.type.rank}, 2]"
    )
    node.require(min(flat, default=0) >= 0, f"paddings are {list(flat)}, must not be negative")
    return ops.Pad(
        input=x,
        value=node.input(2) if node.name == "PADV2" else None,
        output=node.output,
        before=flat[0::2],
        after=flat[1::2],
        index=node.index,
    )


def reshape(node: NodeView) -> Op:
    """RESHAPE: the shape is an operand or an option; the output must have it."""
    node.arity(1, 2)
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


def _shape_meant(wanted: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Put in the number that one -1 stands for."""
    if wanted.count(-1) != 1:
        return wanted
    rest = math.prod(n for n in wanted if n != -1)
    return tuple(size // max(rest, 1) if n == -1 else n for n in wanted)


def _legacy_scalar(wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """Old converters write [0] for the shape of a scalar."""
    return () if wanted == (0,) else None


def squeeze(node: NodeView) -> Op:
    """SQUEEZE: axes from the options."""
    node.arity(1)
    node.expect("SqueezeOptions")
    x = node.input(0)
    axes = {node.axis(a, x.type.rank) for a in node.option("squeeze_dims")}
    return ops.Squeeze(
        input=x, output=node.output, axes=tuple(sorted(axes)), index=node.index
    )  # fmt: skip


def transpose(node: NodeView) -> Op:
    """TRANSPOSE: input, constant permutation."""
    node.arity(2)
    x = node.input(0)
    perm = tuple(node.axis(a, x.type.rank, "perm") for a in node.constant(1, "perm"))
    node.require(
        sorted(perm) == list(range(x.type.rank)),
        f"perm is {list(perm)}, must name each of {x.type.rank} axes once",
    )
    return ops.Transpose(input=x, output=node.output, perm=perm, index=node.index)


def slice_(node: NodeView) -> Op:
    """SLICE: input, constant begin and size; -1 as size means *the rest*."""
    node.arity(3)
    x = node.input(0)
    begin, size = node.constant(1, "begin"), node.constant(2, "size")
    rank = x.type.rank
    node.require(
        len(begin) == len(size) == rank,
        f"begin and size have {len(begin)} and {len(size)} numbers, must have {rank}",
    )
    meant = tuple(
        n - b if s == -1 else s for n, b, s in zip(x.shape, begin, size, strict=True)
    )  # fmt: skip
    for n, b, s in zip(x.shape, begin, meant, strict=True):
        node.require(
            min(b, s) >= 0 and b + s <= n,
            f"begin {list(begin)} and size {list(size)} must lie within {list(x.shape)}",
        )
    return ops.Slice(input=x, output=node.output, begin=begin, size=meant, index=node.index)


# STRIDED_SLICE ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cut:
    """What one input axis becomes; end -1 with a negative stride is *past the first element*."""

    begin: int
    end: int
    stride: int
    shrinks: bool = False


def strided_slice(node: NodeView) -> Op | tuple[Op, ...]:
    """STRIDED_SLICE with all masks resolved; axes that it adds become a reshape behind it."""
    node.arity(4)
    node.expect("StridedSliceOptions")
    cuts, adds = _cuts(node)
    sliced = ops.StridedSlice(
        input=node.input(0),
        output=node.output,
        begin=tuple(c.begin for c in cuts),
        end=tuple(c.end for c in cuts),
        strides=tuple(c.stride for c in cuts),
        shrink_axes=tuple(i for i, c in enumerate(cuts) if c.shrinks),
        index=node.index,
    )
    if not adds:
        return sliced
    inner = _without_new_axes(node.output, cuts)
    return replace(sliced, output=inner), ops.Reshape(
        input=inner, output=node.output, index=node.index
    )


def _without_new_axes(output: Value, cuts: list[_Cut]) -> Value:
    shape = tuple(len(range(c.begin, c.end, c.stride)) for c in cuts if not c.shrinks)
    return Value(f"{output.name}/sliced", replace(output.type, shape=shape))


def _cuts(node: NodeView) -> tuple[list[_Cut], bool]:
    """Return one cut for each input axis, and whether the output gets new axes."""
    shape = node.input(0).shape
    begin, end, strides = (
        node.constant(i, what) for i, what in ((1, "begin"), (2, "end"), (3, "strides"))
    )
    node.require(
        len(begin) == len(end) == len(strides),
        f"begin, end and strides have {len(begin)}, {len(end)} and {len(strides)} numbers,"
        " must have as many",
    )
    ellipsis, new = node.option("ellipsis_mask"), node.option("new_axis_mask")
    places = range(len(begin))
    whole = [i for i in places if ellipsis >> i & 1]
    added = [i for i in places if new >> i & 1 and i not in whole]
    node.require(len(whole) <= 1, f"ellipsis mask is {ellipsis:#x}, must have at most one bit")
    named = len(begin) - len(whole) - len(added)
    node.require(named <= len(shape), f"names {named} axes, must be at most {len(shape)}")
    cuts: list[_Cut] = []
    for i in places:
        if i in whole:
            cuts += [_Cut(0, n, 1) for n in shape[len(cuts) : len(cuts) + len(shape) - named]]
        elif i not in added:
            cuts.append(_cut(node, i, shape[len(cuts)], (begin[i], end[i], strides[i])))
    cuts += [_Cut(0, n, 1) for n in shape[len(cuts) :]]
    return cuts, bool(added)


def _cut(node: NodeView, i: int, size: int, numbers: tuple[int, int, int]) -> _Cut:
    """Resolve one axis as TFLite's kernel does: negative numbers count from the end, then clamp."""
    begin, end, stride = numbers
    node.require(stride != 0, "stride is 0, must not be")
    if node.option("offset"):
        end += begin
    lowest, highest = (0, size) if stride > 0 else (-1, size - 1)

    def place(number: int) -> int:
        return min(max(number + size if number < 0 else number, lowest), highest)

    first = lowest if stride > 0 else highest
    start = first if node.option("begin_mask") >> i & 1 else place(begin)
    if node.option("shrink_axis_mask") >> i & 1:
        node.require(
            stride > 0 and start < size, f"takes element {begin} of an axis of {size} elements"
        )
        return _Cut(start, start + 1, 1, shrinks=True)
    last = highest if stride > 0 else lowest
    return _Cut(start, last if node.option("end_mask") >> i & 1 else place(end), stride)
