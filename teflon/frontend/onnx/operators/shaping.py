"""Change the shape and keep the elements: they move only where a Reshape needs the file's order."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from teflon.frontend.onnx.layout import Perm, View, plain
from teflon.frontend.onnx.operators.row import Row
from teflon.frontend.onnx.site import Site
from teflon.frontend.onnx.tensors import shifted
from teflon.ir import Value, ops
from teflon.ir.types import DType

# Identity, Dropout, Transpose: the same value ----------------------------------------------------


def _read_identity(site: Site) -> View:
    site.one_result()
    return site.moved(0)


def _read_transpose(site: Site) -> View:
    x = site.moved(0)
    perm = site.integers("perm") or tuple(reversed(range(x.rank)))
    site.require(
        sorted(perm) == list(range(x.rank)),
        f"perm is {list(perm)}, must name each of {x.rank} axes once",
    )
    return x.renamed({old: new for new, old in enumerate(perm)})


# Reshape, Flatten, Squeeze, Unsqueeze ------------------------------------------------------------


def _read_reshape(site: Site) -> View:
    x = site.moved(0)
    wanted = site.integers("shape") if site.version < 5 else site.whole(1, "shape")
    if wanted is None:
        site.unread("shape is absent, must be there")
    shape = list(wanted)
    if not site.integer("allowzero", 0):
        for axis, size in enumerate(shape):
            if size == 0:
                site.require(axis < x.rank, f"shape {shape} copies an axis that is not there")
                shape[axis] = x.shape[axis]
    if shape.count(-1) == 1:
        rest = math.prod(n for n in shape if n != -1)
        site.require(rest > 0 and x.type.size % rest == 0, f"{x.shape} cannot become {shape}")
        shape[shape.index(-1)] = x.type.size // rest
    site.require(
        min(shape, default=1) > 0 and math.prod(shape) == x.type.size,
        f"{list(x.shape)} cannot become {list(wanted)}",
    )
    return reshaped(site, x, tuple(shape))


def _read_flatten(site: Site) -> View:
    x = site.moved(0)
    axis = site.integer("axis", 1)
    site.require(-x.rank <= axis <= x.rank, f"axis is {axis}, must be within {x.rank}")
    axis = axis + x.rank if axis < 0 else axis
    return reshaped(site, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def reshaped(site: Site, x: View, shape: tuple[int, ...]) -> View:
    """Return a tensor in another shape."""
    if shape == x.shape:
        return x
    if (renamed := _only_ones_moved(x, shape)) is not None:
        return renamed
    if not x.same_order(plain(x.rank)):
        _remember_source(site, x, shape)
        x = site.arranged(x, plain(x.rank))
    return site.moving(ops.Reshape, x, plain(len(shape)), shape, input=x.value)


def _only_ones_moved(x: View, shape: tuple[int, ...]) -> View | None:
    """Return the same value if only axes of size one change their places, and none is lost."""
    long = [a for a in range(x.rank) if x.shape[a] != 1]
    new = [a for a, size in enumerate(shape) if size != 1]
    if [x.shape[a] for a in long] != [shape[a] for a in new] or len(shape) != len(x.perm):
        return None
    free = iter(a for a, size in enumerate(shape) if size == 1)
    moved = dict(zip(long, new, strict=True))
    perm = tuple(moved[a] if a is not None and a in moved else next(free) for a in x.perm)
    return View(x.value, perm)


def _remember_source(site: Site, x: View, shape: tuple[int, ...]) -> None:
    """Let a fully connected layer that reads the result take the image as it lies in memory."""
    flattens = len(shape) == 2 and x.rank > 2 and shape[0] == x.shape[0]
    result = site.results[0] if site.results else None
    if flattens and result is not None and None not in x.perm and x.perm[0] == 0:
        result.source = x


def _axes(site: Site) -> tuple[int, ...] | None:
    return site.integers("axes") if site.version < 13 else site.whole(1, "axes")


def _read_squeeze(site: Site) -> View:
    x = site.moved(0)
    named = _axes(site)
    axes = (
        tuple(a for a in range(x.rank) if x.shape[a] == 1) if named is None
        else site.axes(named, x.rank)
    )  # fmt: skip
    site.require(all(x.shape[a] == 1 for a in axes), f"axes {list(axes)} must have size 1")
    if not axes:
        return x
    kept = [a for a in range(x.rank) if a not in axes]
    perm: Perm = tuple(kept.index(a) for a in x.perm if a is not None and a not in axes)
    places = tuple(sorted(i for i, a in enumerate(x.perm) if a is None or a in axes))
    return site.moving(ops.Squeeze, x, perm, input=x.value, axes=places)


def _read_unsqueeze(site: Site) -> View:
    x = site.moved(0)
    named = _axes(site)
    if named is None:
        site.unread("axes are absent, must be there")
    rank = x.rank + len(named)
    axes = site.axes(named, rank)
    x = site.arranged(x, plain(x.rank))
    old = iter(x.shape)
    shape = tuple(1 if a in axes else next(old) for a in range(rank))
    if len(axes) == 1:
        return site.moving(ops.ExpandDims, x, plain(rank), shape, input=x.value, axis=axes[0])
    return site.moving(ops.Reshape, x, plain(rank), shape, input=x.value)


# Pad ---------------------------------------------------------------------------------------------


def _read_pad(site: Site) -> View:
    x = site.moved(0)
    before, after = _sides(site, x)
    mode = site.text("mode", "constant")
    if min((*before, *after), default=0) < 0:
        x = _cropped(site, x, before, after)
        before, after = (tuple(max(n, 0) for n in side) for side in (before, after))
    fields: dict[str, Any] = {
        "before": x.spread(before, 0),
        "after": x.spread(after, 0),
        "input": x.value,
    }
    if mode == "reflect":
        return site.moving(ops.MirrorPad, x, x.perm, reflect=True, **fields)
    site.require(mode == "constant", f"mode is {mode!r}, must be constant or reflect")
    return site.moving(ops.Pad, x, x.perm, value=_filler(site, x), **fields)


def _cropped(site: Site, x: View, before: tuple[int, ...], after: tuple[int, ...]) -> View:
    """Return what negative pads leave of a tensor."""
    begin = [max(0, -n) for n in before]
    size = [n - b - max(0, -a) for n, b, a in zip(x.shape, begin, after, strict=True)]
    site.require(min(size) > 0, "leaves nothing")
    value = site.emitter.emit(
        ops.Slice, f"{site.node.where}/cropped", x.type, input=x.value, begin=x.spread(begin, 0),
        size=x.spread(size, 1),
    )  # fmt: skip
    return View(value, x.perm)


def _sides(site: Site, x: View) -> tuple[tuple[int, ...], tuple[int, ...]]:
    old = site.version < 11
    pads = (site.integers("pads") if old else site.whole(1, "pads")) or ()
    named = None if old else site.whole(3, "axes")
    axes = list(range(x.rank)) if named is None else [site.axis(a, x.rank) for a in named]
    count = len(axes)
    site.require(
        len(pads) == 2 * count and len(set(axes)) == count,
        f"pads are {list(pads)}, must be {2 * count} numbers",
    )
    before, after = [0] * x.rank, [0] * x.rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[count + i]
    return tuple(before), tuple(after)


def _filler(site: Site, x: View) -> Value | None:
    """Return what is filled in; None for zero."""
    tensor = None if site.version < 11 else site.optional(2)
    if tensor is None:
        number = site.number("value", 0.0) if site.version < 11 else 0.0
    elif tensor.data is not None or (tensor.steps is not None and tensor.steps.value.is_constant):
        number = _constant_number(site)
    else:
        site.unread("the value to fill with is computed, must be constant")
    kind, dtype = x.type.quantization, x.type.dtype
    first = site.operand(0)
    if kind is None or first.steps is None:  # the numbers as the file has them
        data = shifted(np.array(number).astype(first.dtype.numpy), dtype)
        filler = 0 if kind is None else kind.zero_point
        if data == filler:
            return None
    elif number == 0:
        return None
    else:
        low, high = dtype.range
        step = float(np.clip(number / kind.scale + kind.zero_point, low, high))
        exact = site.target is not None or abs(step - round(step)) < 1e-3
        site.require(exact, f"fills with {number:g}, must be a number of steps")
        data = np.array(round(step), dtype.numpy)
    return site.emitter.constant(data, f"{site.node.where}/value", kind)


def _constant_number(site: Site) -> float:
    tensor = site.operand(2)
    if tensor.data is not None:
        site.require(tensor.data.size == 1, "the value to fill with must be one number")
        return float(tensor.data.reshape(-1)[0])
    view = site.quantised(2)
    assert view.value.data is not None
    site.require(view.value.data.size == 1, "the value to fill with must be one number")
    return (float(view.value.data.reshape(-1)[0]) - view.type.zero_point) * view.type.scale


# Tile, Expand ------------------------------------------------------------------------------------


def _read_tile(site: Site) -> View:
    x = site.moved(0)
    repeats = site.whole(1, "repeats")
    site.require(
        repeats is not None and len(repeats) == x.rank and min(repeats) > 0,
        f"repeats are {repeats}, must be {x.rank} numbers of 1 or more",
    )
    return site.moving(
        ops.Tile, x, x.perm, input=x.value, multiples=x.spread(repeats or (), 1)
    )  # fmt: skip


# DepthToSpace, SpaceToDepth ----------------------------------------------------------------------


def _read_depth_to_space(site: Site) -> View:
    x = site.moved(0)
    site.require(x.rank == 4, f"input has {x.rank} axes, must have 4")
    block = site.integer("blocksize", 0)
    mode = site.text("mode", "DCR")
    image = site.arranged(x, (0, 2, 3, 1))
    value = image.value
    channels = value.shape[3]
    site.require(
        block >= 1 and channels % (block * block) == 0,
        f"blocksize is {block}, must be 1 or more and its square divide {channels} channels",
    )
    if mode == "CRD":
        order = np.arange(channels, dtype=np.int32).reshape(-1, block * block).T.reshape(-1)
        places = site.emitter.constant(order, f"{site.node.where}/order")
        value = site.emitter.emit(
            ops.Gather, f"{site.node.where}/ordered", x.type, input=value, positions=places, axis=3
        )
    else:
        site.require(mode == "DCR", f"mode is {mode!r}, must be DCR or CRD")
    return site.moving(ops.DepthToSpace, x, image.perm, input=value, block=block)


def _read_space_to_depth(site: Site) -> View:
    x = site.moved(0)
    site.require(x.rank == 4, f"input has {x.rank} axes, must have 4")
    image = site.arranged(x, (0, 2, 3, 1))
    block = site.integer("blocksize", 0)
    return site.moving(ops.SpaceToDepth, x, image.perm, input=image.value, block=block)


# Cast between numbers that are not quantised -----------------------------------------------------


def _read_cast(site: Site) -> View:
    from teflon.frontend.onnx.types import DTYPES

    x = site.moved(0)
    site.require(x.type.quantization is None, "its input is quantised")
    dtype = DTYPES.get(site.integer("to", 0), DType.OTHER)
    safe = dtype.numpy.kind in "iu" and x.type.dtype.numpy.kind in "iu" and dtype is not DType.OTHER
    site.require(safe, f"from {x.type.dtype.value} to {dtype.value}, must be between integers")
    result = site.results[0]
    number = -1 if result is None else result.number
    type_ = dataclasses.replace(x.type, dtype=dtype)
    made = site.emitter.emit(
        ops.Cast, site.node.outputs[0], type_, number, x.perm, input=x.value
    )  # fmt: skip
    return View(made, x.perm)


ROWS = (
    Row(kind="Identity", read=_read_identity, classes=(), moves=True, note="vanishes"),
    Row(
        kind="Dropout", read=_read_identity, classes=(), moves=True, note="vanishes", inputs=(1, 3),
    ),
    Row(
        kind="Transpose", read=_read_transpose, classes=(ops.Transpose,), moves=True,
        note="vanishes where no other operation needs the order",
    ),
    Row(
        kind="Reshape", read=_read_reshape, classes=(ops.Reshape,), moves=True,
        note="constant shape", inputs=(1, 2),
    ),
    Row(kind="Flatten", read=_read_flatten, classes=(ops.Reshape,), moves=True),
    Row(
        kind="Squeeze", read=_read_squeeze, classes=(ops.Squeeze,), moves=True, inputs=(1, 2),
    ),
    Row(
        kind="Unsqueeze", read=_read_unsqueeze, classes=(ops.ExpandDims, ops.Reshape), moves=True,
        inputs=(1, 2),
    ),
    Row(
        kind="Pad", read=_read_pad, classes=(ops.Pad, ops.MirrorPad), moves=True,
        note="constant or reflect", inputs=(1, 4),
    ),
    Row(
        kind="Tile", read=_read_tile, classes=(ops.Tile,), moves=True, note="constant repeats",
        inputs=(2, 2),
    ),
    Row(
        kind="DepthToSpace", read=_read_depth_to_space, classes=(ops.DepthToSpace, ops.Gather),
        moves=True,
    ),
    Row(
        kind="SpaceToDepth", read=_read_space_to_depth, classes=(ops.SpaceToDepth,), moves=True,
    ),
    Row(
        kind="Cast", read=_read_cast, classes=(ops.Cast,), moves=True, note="between integers",
    ),
)  # fmt: skip
