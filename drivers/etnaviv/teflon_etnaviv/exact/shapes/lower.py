"""From convolutions of any shape to ordinary ones, with moves before and behind them.

Ref: docs/hardware/etnaviv.md sections 4.2 (blocks), 5.3 (moves into blocks)
Ref: docs/hardware/etnaviv_vendor.md, engine chosen by the vendor (depth to space behind the NN)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from teflon.ir.graph import Value
from teflon.ir.ops import FullyConnected, TransposeConv
from teflon.ir.types import NO_PADDING, Padding
from teflon_etnaviv.exact.lowering import Lowering
from teflon_etnaviv.exact.shapes import kernels
from teflon_etnaviv.exact.shapes.forms import (
    Convolution,
    Form,
    Pair,
    form,
    over_pairs,
    phases,
    space,
)
from teflon_etnaviv.exact.windows.images import Planes, pasted, surrounded, thinned
from teflon_etnaviv.tensors import Layout, Tensor
from teflon_etnaviv.tp.blocks import Blocks
from teflon_etnaviv.tp.moves import Interleave

Plain = Callable[[Convolution, Lowering], None]
"""Lowers a convolution of strides 1, or 2 in both directions, without dilation and groups."""


def shaped(op: Convolution, state: Lowering, plain: Plain) -> None:
    """Lower a convolution of any shape."""
    kind = form(op, state.chip)
    op = kernels.ungrouped(op)
    if kind is Form.SPACE:
        _on_small_images(op, state, plain)
        return
    op = kernels.undilated(op)
    if kind is Form.PHASES:
        _over_blocks(op, state, plain)
    elif kind is Form.PICKED:
        _picked(op, state, plain)
    elif kind is Form.THINNED:
        _thinned(op, state, plain)
    else:
        plain(_padded(op, state), state)


def _value(like: Value, what: str, shape: tuple[int, int, int, int]) -> Value:
    """Return a value of another shape in the quantisation of one."""
    return Value(f"{like.name} ({what})", replace(like.type, shape=shape))


def _planes(value: Value, state: Lowering) -> Planes:
    return Planes.of(state.get(value, Layout.PLANES))


def _defined(value: Value, state: Lowering) -> Planes:
    return Planes.of(state.define(value, Layout.PLANES))


def _padded(op: Convolution, state: Lowering) -> Convolution:
    """Return a convolution whose padding the cores can do, behind a move that does all of it where
    they cannot.
    """
    pad = op.padding
    if over_pairs(op) or max(pad.top, pad.left) <= state.chip.padding_max:
        return op
    _, height, width, channels = op.input.shape
    size = height + pad.top + pad.bottom, width + pad.left + pad.right
    whole = _value(op.input, "padded", (1, *size, channels))
    made = surrounded(state, op.where, _planes(op.input, state), (pad.top, pad.left), size)
    state.known[whole, Layout.PLANES] = made.tensor
    return replace(op, input=whole, padding=NO_PADDING, location=op.where)


def _picked(op: Convolution, state: Lowering, plain: Plain) -> None:
    """Pick the elements that kernels of one element look at."""
    some = _value(op.input, "picked", (1, *_pair(op.output), op.input.shape[3]))
    source = _planes(op.input, state)
    thinned(state, op.where, source, _defined(some, state), op.stride)
    plain(replace(op, input=some, stride=(1, 1), location=op.where), state)


def _thinned(op: Convolution, state: Lowering, plain: Plain) -> None:
    """Compute all results, keep some."""
    high, wide = ((n - 1) * s + 1 for n, s in zip(_pair(op.output), op.stride, strict=True))
    every = _value(op.output, "all", (1, high, wide, op.output.shape[3]))
    whole = replace(op, output=every, stride=(1, 1), location=op.where)
    plain(_padded(whole, state), state)
    source, target = _ends(every, op.output, state)
    thinned(state, op.where, Planes.of(source), target, op.stride)


def _pair(value: Value) -> Pair:
    return value.shape[1], value.shape[2]


def _over_blocks(op: Convolution, state: Lowering, plain: Plain) -> None:
    """Run over blocks that hold the padding; spread outputs that come out in channels."""
    sizes = phases(op, state.chip)
    assert sizes is not None, "a rule asks for it"
    times, inputs = sizes.times[0] * sizes.times[1], op.input.shape[3]
    shape = (1, *sizes.blocks, inputs * sizes.step[0] * sizes.step[1])
    blocks = _value(op.input, "blocks", shape)
    state.add(Blocks(
        op.where, (_planes(op.input, state).tensor,), (_defined(blocks, state).tensor,),
        op.padding.top, op.padding.left, min(state.chip.tp_jobs, shape[2]), sizes.step,
    ))  # fmt: skip
    outputs = op.output.shape[3]
    result = op.output
    if times > 1:
        result = _value(op.output, "phases", (1, *sizes.count, outputs * times))
    weights = kernels.with_data(op.weights, kernels.over_blocks(op, sizes), 0, times)
    bias = kernels.repeated(op.bias, times)
    plain(kernels.as_conv(op, input=blocks, weights=weights, bias=bias, output=result), state)
    if result is not op.output:
        ends = _ends(result, op.output, state, times)
        _spread(op.where, state, ends, (*sizes.count, outputs), sizes.times, (0, 0))


def _on_small_images(op: Convolution, state: Lowering, plain: Plain) -> None:
    """Run on the images of every d-th row and column, one below the other.

    What windows yield that reach from one image into the next is cut off.
    """
    (high, wide), (down, across) = space(op), op.dilation
    inputs, outputs = op.input.shape[3], op.output.shape[3]
    source = _planes(op.input, state).tensor
    shape = (1, high, wide, inputs * down * across)
    blocks = source.like(f"{op.input.name} (blocks)", shape)
    pad = op.padding
    jobs = min(state.chip.tp_jobs, wide)
    state.add(Blocks(op.where, (source,), (blocks,), pad.top, pad.left, jobs, op.dilation))
    tall = _value(op.input, "images", (1, high * down * across, wide, inputs))
    state.places[state.define(tall, Layout.PLANES)] = (blocks, 0)
    result = _value(op.output, "images", (1, high * down * across, wide, outputs))
    small = replace(
        op, input=tall, output=result, dilation=(1, 1), padding=Padding(), location=op.where
    )
    plain(small, state)
    ends = _ends(result, op.output, state)
    _spread(op.where, state, ends, (high, wide, outputs), op.dilation, (0, 0))


def _ends(made: Value, output: Value, state: Lowering, times: int = 1) -> tuple[Tensor, Planes]:
    """Return what was computed and an operation's result, whose channels lie in the same order.

    times: channels of the first one for each of the second one. Those of one channel lie together,
    as they have one scale; else all are brought into order first.
    """
    tensor, order = state.planes(made)
    if order is None:
        return tensor, _defined(output, state)
    channels = order[::times] // times
    together = channels[:, np.newaxis] * times + np.arange(times)
    if (order.reshape(-1, times) == together).all():
        return tensor, Planes.of(state.define_planes(output, channels))
    return state.get(made, Layout.PLANES), _defined(output, state)


def _spread(
    name: str,
    state: Lowering,
    ends: tuple[Tensor, Planes],
    size: tuple[int, int, int],
    step: Pair,
    start: Pair,
) -> None:
    """Bring planes of blocks into their places; keep a result's size of that, from `start` on.

    size: rows, columns and channels of blocks.
    """
    (high, wide, channels), (source, target) = size, ends
    whole = high * step[0], wide * step[1]
    made = target if target.size == whole else target.fresh("spread", whole)
    jobs = min(state.chip.tp_jobs, channels)
    state.add(Interleave(name, (source,), (made.tensor,), (wide, high, channels), step, jobs))
    if made is not target:
        pasted(state, name, made, target, start, target.size, (0, 0))


def transposed(op: TransposeConv, state: Lowering, plain: Plain) -> None:
    """Lower a transposed convolution: the outputs at each place of blocks are a convolution."""
    times = op.stride[0] * op.stride[1]
    first, count = blocks_of(op)
    rows, columns = kernels.taps(op)
    outputs = op.output.shape[3]
    result = op.output
    if times > 1 or count != _pair(op.output):
        result = _value(op.output, "phases", (1, *count, outputs * times))
    top, left = rows - 1 - first[0], columns - 1 - first[1]
    weights = kernels.with_data(op.weights, kernels.of_transposed(op), 0, times)
    whole = kernels.as_conv(
        op, input=op.input, weights=weights, bias=kernels.repeated(op.bias, times), output=result,
        padding=Padding(top, rows - 1, left, columns - 1),
    )  # fmt: skip
    plain(_padded(whole, state), state)
    if result is not op.output:
        start = op.padding.top % op.stride[0], op.padding.left % op.stride[1]
        ends = _ends(result, op.output, state, times)
        _spread(op.where, state, ends, (*count, outputs), op.stride, start)


def blocks_of(op: TransposeConv) -> tuple[Pair, Pair]:
    """Return the first block of outputs with one that is kept, and how many blocks there are.

    The first block begins with the output at which the first input's kernel does.
    """
    before = op.padding.top, op.padding.left
    ends = zip(before, _pair(op.output), op.stride, strict=True)
    first = before[0] // op.stride[0], before[1] // op.stride[1]
    high, wide = ((p + n - 1) // s + 1 for p, n, s in ends)
    return first, (high - first[0], wide - first[1])


def rows_as_image(op: FullyConnected, state: Lowering, plain: Plain) -> None:
    """Lower a fully connected layer of several rows: each row is a pixel."""
    outputs, inputs = op.weights.shape
    high, wide = image_of(op, state.chip.nn_image_max)
    source = _value(op.input, "pixels", (1, high, wide, inputs))
    state.places[state.define(source, Layout.ROWS)] = (state.get(op.input, Layout.ROWS), 0)
    result = _value(op.output, "pixels", (1, high, wide, outputs))
    assert op.weights.data is not None, "a rule asks for it"
    weights = kernels.with_data(op.weights, op.weights.data.reshape(outputs, 1, 1, inputs))
    plain(kernels.as_conv(op, input=source, weights=weights, bias=op.bias, output=result), state)
    state.places[state.define(op.output, Layout.ROWS)] = (state.get(result, Layout.ROWS), 0)


def image_of(op: FullyConnected, most: int) -> Pair:
    """Return rows and columns of an image whose pixels are the rows of inputs."""
    count = op.input.type.size // op.weights.shape[-1]
    wide = next(n for n in range(1, count + 1) if count % n == 0 and count // n <= most)
    return count // wide, wide
