"""Take parts of a tensor."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from teflon.frontend.tflite.node import NodeView
from teflon.frontend.tflite.operators import attributes
from teflon.frontend.tflite.operators.row import Row, Written, by_type
from teflon.ir import DType, Op, Value, ops

# SLICE: input, constant begin and size; -1 as size means *the rest* -------------------------


def _read_slice(node: NodeView) -> Op:
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


def _write_slice(op: ops.Slice) -> Written:
    begin = attributes.operand(op, "begin", op.begin)
    return Written([op.input, begin, attributes.operand(op, "size", op.size)])


# STRIDED_SLICE: all masks are resolved; axes that it adds become a reshape behind it ---------


class _Cut(NamedTuple):
    """What one input axis becomes; end -1 with a negative stride is *past the first element*."""

    begin: int
    end: int
    stride: int
    shrinks: bool = False

    @property
    def size(self) -> int:
        return len(range(self.begin, self.end, self.stride))


def _read_strided_slice(node: NodeView) -> Op | tuple[Op, ...]:
    cuts, shape = _cuts(node)
    sliced = ops.StridedSlice(
        input=node.input(0),
        output=node.output,
        begin=tuple(c.begin for c in cuts),
        end=tuple(c.end for c in cuts),
        strides=tuple(c.stride for c in cuts),
        shrink_axes=tuple(i for i, c in enumerate(cuts) if c.shrinks),
        index=node.index,
    )
    if shape is None:
        return sliced
    output = node.output_shaped(shape)
    inner = _without_new_axes(output, cuts)
    return replace(sliced, output=inner), ops.Reshape(input=inner, output=output, index=node.index)


def _without_new_axes(output: Value, cuts: list[_Cut]) -> Value:
    shape = tuple(c.size for c in cuts if not c.shrinks)
    return Value(f"{output.name}/sliced", replace(output.type, shape=shape))


def _cuts(node: NodeView) -> tuple[list[_Cut], tuple[int, ...] | None]:
    """Return one cut for each input axis, and the shape of an output that gets new axes."""
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
    before: dict[int, int] = {}  # cut -> how many new axes stand before it
    for i in places:
        if i in whole:
            cuts += [_Cut(0, n, 1) for n in shape[len(cuts) : len(cuts) + len(shape) - named]]
        elif i in added:
            before[len(cuts)] = before.get(len(cuts), 0) + 1
        else:
            cuts.append(_cut(node, i, shape[len(cuts)], (begin[i], end[i], strides[i])))
    cuts += [_Cut(0, n, 1) for n in shape[len(cuts) :]]
    return cuts, _with_new_axes(cuts, before) if added else None


def _with_new_axes(cuts: list[_Cut], before: dict[int, int]) -> tuple[int, ...]:
    found: list[int] = []
    for place, cut in enumerate(cuts):
        found += [1] * before.get(place, 0) + ([] if cut.shrinks else [cut.size])
    return (*found, *[1] * before.get(len(cuts), 0))


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


def _write_strided_slice(op: ops.StridedSlice) -> Written:
    past_first = [i for i, (e, s) in enumerate(zip(op.end, op.strides, strict=True)) if e < 0 > s]
    fields = {
        "end_mask": sum(1 << axis for axis in past_first),
        "shrink_axis_mask": sum(1 << axis for axis in op.shrink_axes),
    }
    end = [0 if i in past_first else e for i, e in enumerate(op.end)]
    operands = [
        attributes.operand(op, "begin", op.begin),
        attributes.operand(op, "end", end),
        attributes.operand(op, "strides", op.strides),
    ]
    return Written([op.input, *operands], fields)


def _version_of_strided_slice(op: ops.StridedSlice) -> int:
    return max(4 if op.input.type.rank > 4 else 1, by_type(i8=2, bool=3)(op))


# GATHER: input, positions; without options the axis is the first -----------------------------


def _read_gather(node: NodeView) -> Op:
    x, positions = node.input(0), node.input(1)
    given = node.options_type == "GatherOptions"
    axis, batch = (node.option(n) if given else 0 for n in ("axis", "batch_dims"))
    return ops.Gather(
        input=x,
        positions=positions,
        output=node.output,
        axis=node.axis(axis, x.type.rank),
        batch_dims=batch + positions.type.rank if batch < 0 else batch,
        index=node.index,
    )


def _write_gather(op: ops.Gather) -> Written:
    return Written([op.input, op.positions], {"axis": op.axis, "batch_dims": op.batch_dims})


def _version_of_gather(op: ops.Gather) -> int:
    needs = [by_type(i8=2, bool=3, i16=4)(op)]
    needs += [5] * (op.batch_dims != 0) + [6] * (op.positions.type.dtype is DType.INT16)
    return max(needs)


# GATHER_ND: input, positions -------------------------------------------------------------------


def _read_gather_nd(node: NodeView) -> Op:
    return ops.GatherNd(
        input=node.input(0), positions=node.input(1), output=node.output, index=node.index
    )  # fmt: skip


def _write_gather_nd(op: ops.GatherNd) -> Written:
    return Written([op.input, op.positions])


def _version_of_gather_nd(op: ops.GatherNd) -> int:
    return max(by_type(i16=3, bool=5)(op), 4 if op.positions.type.dtype is DType.INT16 else 1)


ROWS = (
    Row(
        kind=ops.Slice, read=_read_slice, write=_write_slice, inputs=(3, 3), newest=7,
        version=by_type(i8=2, i16=4), options="SliceOptions",
    ),
    Row(
        kind=ops.StridedSlice, read=_read_strided_slice, write=_write_strided_slice, inputs=(4, 4),
        newest=8, version=_version_of_strided_slice, options="StridedSliceOptions",
        # `offset` follows in newer structs; the version that has it is not read
        runtime="begin_mask:i32 end_mask:i32 ellipsis_mask:i32 new_axis_mask:i32"
                " shrink_axis_mask:i32",
    ),
    Row(
        kind=ops.Gather, read=_read_gather, write=_write_gather, inputs=(2, 2), newest=8,
        version=_version_of_gather, options="GatherOptions", optional=True,
        runtime="axis:i32 batch_dims:i32",
    ),
    Row(
        kind=ops.GatherNd, read=_read_gather_nd, write=_write_gather_nd, inputs=(2, 2), newest=5,
        version=_version_of_gather_nd, options="GatherNdOptions",
    ),
)  # fmt: skip
