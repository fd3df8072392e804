"""Parts of a stage: the graph with which one core computes some rows or channels of the results."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from teflon.ir import ops as ir
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.types import Array, Padding, Quantization, TensorType
from teflon.run.multicore.rows import HEIGHT, Links, Span, links, spans, windows

CHANNELS = 3  # the axis of channels


@dataclass(frozen=True)
class Piece:
    """The place of a part's tensor in the whole tensor: from `low` to before `high` along an axis.

    A part may compute more rows than it contributes to a result: the first `skip` are left out.
    """

    axis: int
    low: int
    high: int
    skip: int = 0


@dataclass(frozen=True, eq=False)
class Part:
    """The graph of one core, and the piece of each of its inputs and outputs."""

    graph: Graph
    inputs: tuple[Piece, ...]
    outputs: tuple[Piece, ...]


@dataclass(frozen=True)
class Rows:
    """A way to cut a stage into rows: fractions of the height of its results, from 0 to 1."""

    cuts: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.cuts) - 1


@dataclass(frozen=True)
class Channels:
    """A way to cut a stage into channels: numbers of its results' channels, from 0 to all."""

    cuts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.cuts) - 1


def shares(height: int, cuts: Sequence[float]) -> list[Span] | None:
    """Return the rows of each part; None if a part would have no row."""
    edges = [round(height * cut) for cut in cuts]
    found = [Span(low, high) for low, high in itertools.pairwise(edges)]
    return found if all(len(span) > 0 for span in found) else None


def row_spans(
    stage_links: Links, outputs: Sequence[Value], rows: Rows, numbers: Sequence[int]
) -> list[tuple[dict[Value, Span], dict[Value, Span]]] | None:
    """Return for some parts the rows that they contribute to each result, and the rows that they
    compute or read of each value; None if a part would have no row.
    """
    owned = {value: shares(value.shape[HEIGHT], rows.cuts) for value in outputs}
    found = []
    for number in numbers:
        own = {value: every[number] for value, every in owned.items() if every is not None}
        if len(own) < len(outputs):
            return None
        found.append((own, spans(stage_links, own)))
    return found


def cut_rows(stage: Graph, rows: Rows) -> list[Part] | None:
    """Return the parts of a stage; None if it cannot be cut in this way."""
    stage_links = links(stage.ops)
    if stage_links is None:
        return None
    found = row_spans(stage_links, stage.outputs, rows, range(len(rows)))
    return None if found is None else [_row_part(stage, own, every) for own, every in found]


def _row_part(stage: Graph, own: Mapping[Value, Span], every: Mapping[Value, Span]) -> Part:
    values = {value: _with_size(value, HEIGHT, len(span)) for value, span in every.items()}
    ops = [_row_op(op, every) for op in stage.ops if op.results[0] in every]
    graph = _graph(stage, values, ops)
    return Part(
        graph,
        tuple(Piece(HEIGHT, every[v].low, every[v].high) for v in stage.inputs),
        tuple(
            Piece(HEIGHT, own[v].low, own[v].high, own[v].low - every[v].low) for v in stage.outputs
        ),
    )


def _graph(stage: Graph, values: Mapping[Value, Value], ops: Sequence[Op]) -> Graph:
    return Graph(
        stage.name,
        tuple(values.get(v, v) for v in stage.inputs),
        tuple(values.get(v, v) for v in stage.outputs),
        tuple(op.rewired(values) for op in ops),
    )


def _with_size(value: Value, axis: int, size: int) -> Value:
    shape = (*value.shape[:axis], size, *value.shape[axis + 1 :])
    return dataclasses.replace(value, type=dataclasses.replace(value.type, shape=shape))


_PADDED = (
    ir.Conv2D | ir.DepthwiseConv2D | ir.TransposeConv | ir.AveragePool2D | ir.MaxPool2D | ir.Pad
)


def _row_op(op: Op, every: Mapping[Value, Span]) -> Op:
    """Return an operation with the padding that fits the rows of its input and its result."""
    if not isinstance(op, _PADDED):
        return op
    above, below = (windows(op) or {})[op.input].padding(every[op.input], every[op.output])
    if isinstance(op, ir.Pad):
        before, after = _with_height(op.before, above), _with_height(op.after, below)
        return dataclasses.replace(op, before=before, after=after)
    padding = Padding(above, below, op.padding.left, op.padding.right)
    return dataclasses.replace(op, padding=padding)


def _with_height(sizes: tuple[int, ...], rows: int) -> tuple[int, ...]:
    return (*sizes[:HEIGHT], rows, *sizes[HEIGHT + 1 :])


# Channels -------------------------------------------------------------------------------------


def channel_values(stage: Graph) -> set[Value] | None:
    """Return the values of a stage that can be cut into channels; None if the stage cannot be.

    It can be cut if convolutions over all channels read inputs of the stage only, and the
    operations after them work channel by channel and have the same number of channels.
    """
    made: set[Value] = set()
    for op in stage.ops:
        whole = isinstance(op, ir.Conv2D | ir.FullyConnected)
        read = [v for v in op.inputs_present if not v.is_constant]
        if whole:
            if any(v in made for v in read) or not _sliceable(op):
                return None
        elif not _channelwise(op) or any(v not in made for v in read):
            return None
        made.update(op.results)
    counts = {v.shape[-1] for v in made}
    return made if len(counts) == 1 else None


def _sliceable(op: Op) -> bool:
    assert isinstance(op, ir.Conv2D | ir.FullyConnected)
    constant = op.weights.is_constant and (op.bias is None or op.bias.is_constant)
    if isinstance(op, ir.Conv2D) and op.weights.shape[3] != op.input.shape[3]:
        return False  # a grouped convolution
    return constant and len(op.output.shape) >= 1


def _channelwise(op: Op) -> bool:
    if isinstance(op, ir.DepthwiseConv2D):
        constant = op.weights.is_constant and (op.bias is None or op.bias.is_constant)
        return constant and op.output.shape[-1] == op.input.shape[-1]
    return isinstance(op, ir.AveragePool2D | ir.MaxPool2D | ir.Relu | ir.Relu6) or (
        isinstance(op, ir.Add) and op.a.shape == op.b.shape
    )


def cut_channels(stage: Graph, channels: Channels) -> list[Part] | None:
    """Return the parts of a stage; None if it cannot be cut in this way."""
    made = channel_values(stage)
    if made is None:
        return None
    return [
        _channel_part(stage, made, low, high) for low, high in itertools.pairwise(channels.cuts)
    ]


def _channel_part(stage: Graph, made: set[Value], low: int, high: int) -> Part:
    values = {v: _with_size(v, len(v.shape) - 1, high - low) for v in made}
    for op in stage.ops:
        if isinstance(op, ir.Conv2D | ir.FullyConnected | ir.DepthwiseConv2D):
            values[op.weights] = _slice(op.weights, op.output_axis, low, high)
            if op.bias is not None:
                values[op.bias] = _slice(op.bias, 0, low, high)
    return Part(
        _graph(stage, values, stage.ops),
        tuple(Piece(0, 0, v.shape[0]) for v in stage.inputs),
        tuple(Piece(len(v.shape) - 1, low, high) for v in stage.outputs),
    )


def _slice(value: Value, axis: int, low: int, high: int) -> Value:
    """Return a slice of a constant along an axis, with the scales of that slice."""
    assert value.data is not None
    index = (slice(None),) * axis + (slice(low, high),)
    data: Array = np.ascontiguousarray(value.data[index])
    data.flags.writeable = False
    q = value.type.quantization
    if q is not None and q.axis == axis and len(q.scales) == value.shape[axis]:
        q = Quantization(q.scales[low:high], q.zero_points[low:high], axis)
    return Value(value.name, TensorType(value.type.dtype, data.shape, q), data, value.index)
