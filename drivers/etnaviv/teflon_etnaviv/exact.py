"""From a partition's graph to operations, strategy `exact`: layouts and places are explicit.

Every value has up to two tensors: its bytes in rows (NHWC, what graph inputs, outputs and reshapes
are) and in planes (what the NN cores read and write). Whoever needs the one that does not exist
gets it through one TP job, made once. A tensor can live inside another one (the parts of a
concatenation, both operands of an addition); one that already lives somewhere else is copied.

Ref: docs/hardware/etnaviv.md sections 5, 6 and 10.3 (the B numbers)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Graph, Op, Value
from teflon_etnaviv import exact_nn, tp
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.operations import NN, TP, Lowered, Operation, Tensor, form_of

ROWS, PLANES = "rows", "planes"


def same_order(tensor: Tensor) -> bool:
    """Whether rows and planes are the same bytes: one channel, or one pixel."""
    return tensor.shape[3] == 1 or tensor.shape[1] * tensor.shape[2] == 1


@dataclass
class Exact:
    """One partition being lowered."""

    graph: Graph
    chip: Chip
    known: dict[tuple[Value, str], Tensor] = field(default_factory=dict)
    done: list[Operation] = field(default_factory=list)
    places: dict[Tensor, tuple[Tensor, int]] = field(default_factory=dict)

    def run(self) -> Lowered:
        """Lower every operation, bring the outputs into rows."""
        inputs = [self.define(value, ROWS) for value in self.graph.inputs]
        for op in self.graph.ops:
            form_of(op, _LOWER)(self, op)
        outputs = [self.get(value, ROWS) for value in self.graph.outputs]
        return Lowered(self.done, inputs, outputs, self.places)

    def define(self, value: Value, layout: str, tensor: Tensor | None = None) -> Tensor:
        """Say what holds a value in a layout, in both where they are the same."""
        tensor = tensor or Tensor.of(value)
        self.known[value, layout] = tensor
        if same_order(Tensor.of(value)):
            self.known[value, ROWS] = self.known[value, PLANES] = tensor
        return tensor

    def get(self, value: Value, layout: str) -> Tensor:
        """Return what holds a value in a layout; a TP job makes it where it is not there."""
        found = self.known.get((value, layout))
        if found is not None:
            return found
        source = self.known[value, PLANES if layout == ROWS else ROWS]
        made = Tensor.of(value).like(f"{value.name} ({layout})")
        kind = tp.DETRANSPOSE if layout == ROWS else tp.TRANSPOSE
        self.done.append(TP([source], [made], value.name, kind=kind, exact=True))
        self.known[value, layout] = made
        return made

    def any_layout(self, value: Value) -> str:
        """Return a layout in which a value exists, planes first."""
        return PLANES if (value, PLANES) in self.known else ROWS

    def live_inside(self, tensor: Tensor, host: Tensor, offset: int) -> Tensor:
        """Put a tensor at an offset of another one: itself, or a copy if it lives elsewhere."""
        if tensor not in self.places and not self._hosts(tensor, host):
            self.places[tensor] = (host, offset)
            return tensor
        copy = tensor.like(f"{tensor.name} (copy)")
        self.done.append(TP([tensor], [copy], tensor.name, kind=tp.PAD, planar=True, exact=True))
        self.places[copy] = (host, offset)
        return copy

    def _hosts(self, tensor: Tensor, host: Tensor) -> bool:
        """Whether `host` lives inside `tensor`, which would go round in circles."""
        while host in self.places:
            host = self.places[host][0]
        return host is tensor


def lower(graph: Graph, chip: Chip) -> Lowered:
    """Return a partition's operations. Raises UnsupportedOperation for what has no form here."""
    return Exact(graph, chip).run()


def _convolution(state: Exact, op: Any) -> None:
    source = state.get(op.input, PLANES)
    if exact_nn.uses_blocks(op):
        blocks = source.like(f"{op.input.name} (2x2 blocks)", exact_nn.blocks_shape(op))
        before = (op.padding.top, op.padding.left, 0)
        state.done.append(
            TP([source], [blocks], op.where, kind=tp.BLOCKS, before=before, exact=True)
        )
        source = blocks
    target = state.define(op.output, PLANES)
    layer = exact_nn.convolution(op, state.chip)
    state.done.append(NN([source], [target], op.where, layer=layer))


def _fully_connected(state: Exact, op: Any) -> None:
    source = state.get(op.input, ROWS)
    target = state.define(op.output, ROWS)
    layer = exact_nn.fully_connected(op, state.chip)
    state.done.append(NN([source], [target], op.where, layer=layer))


def _addition(state: Exact, op: Any) -> None:
    both = {state.any_layout(op.a), state.any_layout(op.b)}
    layout = PLANES if PLANES in both else ROWS
    a, b = state.get(op.a, layout), state.get(op.b, layout)
    pair = a.like(f"{op.where} (operands)", (1, 1, 1, a.size_bytes + b.size_bytes))
    a = state.live_inside(a, pair, 0)
    b = state.live_inside(b, pair, a.size_bytes)
    target = state.define(op.output, layout)
    state.done.append(NN([a, b], [target], op.where, layer=exact_nn.addition(op, state.chip)))


def _joins_in_rows(value: Value, axis: int) -> bool:
    """Whether an axis is the outermost one: joining along it joins bytes in rows."""
    return math.prod(value.shape[:axis]) == 1


def _requantised(state: Exact, source: Tensor, target: Tensor) -> Tensor:
    """Return a tensor in the quantisation of another: itself, or what a table makes of it."""
    if (source.scale, source.zero_point) == (target.scale, target.zero_point):
        return source
    made = target.like(f"{source.name} (requantised)", source.shape)
    state.done.append(TP([source], [made], source.name, kind=tp.REQUANTISE, exact=True))
    return made


def _concatenation(state: Exact, op: Any) -> None:
    layout = ROWS if _joins_in_rows(op.output, op.axis) else PLANES
    sources = [state.get(value, layout) for value in op.inputs]
    target = state.define(op.output, layout)
    offset = 0
    for source in sources:
        state.live_inside(_requantised(state, source, target), target, offset)
        offset += source.size_bytes


def _split(state: Exact, op: Any) -> None:
    layout = ROWS if _joins_in_rows(op.input, op.axis) else PLANES
    source = state.get(op.input, layout)
    offset = 0
    for value in op.outputs:
        target = state.define(value, layout)
        state.places[target] = (source, offset)
        offset += target.size_bytes


def _alias(state: Exact, op: Any, source: Tensor, layout: str) -> None:
    target = state.define(op.output, layout)
    state.places[target] = (source, 0)


def _reshape(state: Exact, op: Any) -> None:
    _alias(state, op, state.get(op.input, ROWS), ROWS)


def _transpose(state: Exact, op: Any) -> None:
    """To channels first: the planes are the result's rows; back: rows are its planes."""
    if op.perm == (0, 3, 1, 2):
        _alias(state, op, state.get(op.input, PLANES), ROWS)
    else:
        _alias(state, op, state.get(op.input, ROWS), PLANES)


def _pad(state: Exact, op: Any) -> None:
    """Pad height and width in planes, channels in rows: never along the axis of the job split."""
    before, after = op.before[-3:], op.after[-3:]
    if not (before[2] or after[2]):
        _pad_in(state, op, op.input, PLANES, before, after, state.define(op.output, PLANES))
        return
    if before[0] or after[0]:
        shape = list(Tensor.of(op.input).shape)
        for axis in (0, 1):
            shape[axis + 1] += before[axis] + after[axis]
        middle = Tensor.of(op.input).like(
            f"{op.where} (height, width)", (shape[0], shape[1], shape[2], shape[3])
        )
        flat = (before[0], before[1], 0), (after[0], after[1], 0)
        _pad_in(state, op, op.input, PLANES, *flat, middle)
        rows = middle.like(f"{op.where} (rows)")
        state.done.append(TP([middle], [rows], op.where, kind=tp.DETRANSPOSE, exact=True))
        before, after = (0, 0, before[2]), (0, 0, after[2])
        target = state.define(op.output, ROWS)
        state.done.append(TP([rows], [target], op.where, kind=tp.PAD, before=before, after=after,
                             exact=True))  # fmt: skip
        return
    _pad_in(state, op, op.input, ROWS, before, after, state.define(op.output, ROWS))


def _pad_in(
    state: Exact, op: Any, value: Value, layout: str, before: tuple[int, ...],
    after: tuple[int, ...], target: Tensor,
) -> None:  # fmt: skip
    source = state.get(value, layout)
    state.done.append(
        TP(
            [source], [target], op.where, kind=tp.PAD, planar=layout == PLANES, exact=True,
            before=(before[0], before[1], before[2]), after=(after[0], after[1], after[2]),
        )
    )  # fmt: skip


def _table(kind: str) -> Callable[[Exact, Any], None]:
    def lower_table(state: Exact, op: Any) -> None:
        layout = state.any_layout(op.input)
        source = state.get(op.input, layout)
        target = state.define(op.output, layout)
        state.done.append(TP([source], [target], op.where, kind=kind, exact=True))

    return lower_table


_LOWER: dict[type[Op], Callable[[Exact, Any], None]] = {
    ops.Conv2D: _convolution,
    ops.DepthwiseConv2D: _convolution,
    ops.FullyConnected: _fully_connected,
    ops.Add: _addition,
    ops.Sub: _addition,
    ops.Concatenation: _concatenation,
    ops.Split: _split,
    ops.Reshape: _reshape,
    ops.Transpose: _transpose,
    ops.Pad: _pad,
    ops.Relu: _table(tp.RELU),
    ops.Abs: _table(tp.ABS),
    ops.Logistic: _table(tp.LOGISTIC),
    ops.Quantize: _table(tp.REQUANTISE),
}
