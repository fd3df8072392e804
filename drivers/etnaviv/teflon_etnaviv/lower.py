"""From a partition's graph to operations on tensors with known layouts, in Mesa's way.

Ref: docs/hardware/etnaviv.md sections 6.1 to 6.3
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml.c (lower_operations)

Graph inputs and outputs are NHWC; between NN operations data lies in planes (NCHW). Every tensor
has the layout that its users expect and the one that it really has; where an operation needs
planes and does not get them, a transpose is put before it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from teflon.ir import ops
from teflon.ir.graph import Graph, Op, Value
from teflon_etnaviv import lower_nn, tp
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.operations import (
    NN,
    TP,
    Bypass,
    Concat,
    Lowered,
    Operation,
    Split,
    Tensor,
    form_of,
)


class Layout(enum.Enum):
    """Order of a tensor's bytes."""

    ANY = 0
    NHWC = 1
    NCHW = 2


@dataclass
class _Layouts:
    expected: Layout = Layout.ANY
    actual: Layout = Layout.ANY


_WANT_PLANES = (ops.Conv2D, ops.DepthwiseConv2D, ops.FullyConnected, ops.Concatenation)


@dataclass
class Lowering:
    """One partition being lowered."""

    graph: Graph
    chip: Chip
    tensors: dict[Value, Tensor] = field(default_factory=dict)
    layouts: dict[Tensor, _Layouts] = field(default_factory=dict)
    done: list[Operation] = field(default_factory=list)

    def tensor(self, value: Value) -> Tensor:
        """Return the tensor of a value, one and the same each time."""
        if value not in self.tensors:
            self.tensors[value] = Tensor.of(value)
        return self.tensors[value]

    def layout(self, tensor: Tensor) -> _Layouts:
        return self.layouts.setdefault(tensor, _Layouts())

    def fresh(self, tensor: Tensor, what: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return a new tensor that inherits what is expected of another."""
        new = tensor.like(f"{tensor.name} ({what})", shape)  # type: ignore[arg-type]
        old = self.layout(tensor)
        self.layouts[new] = _Layouts(old.expected, old.actual)
        return new

    def run(self) -> Lowered:
        """Lower every operation, then return the list."""
        for op in self.graph.ops:
            inputs = [self._input(op, value) for value in op.inputs_present]
            operation = form_of(op, _LOWER)(self, op, inputs)
            operation.name = op.where
            self.done.append(operation)
            self._outputs(op, operation)
        return Lowered(
            self.done,
            [self.tensor(v) for v in self.graph.inputs],
            [self.tensor(v) for v in self.graph.outputs],
        )

    def _input(self, op: Op, value: Value) -> Tensor:
        """Return what an operation reads for a value: itself, or its transposed copy."""
        tensor = self.tensor(value)
        layout = self.layout(tensor)
        if self.graph.producer(value) is None:
            layout.expected = layout.actual = Layout.NHWC
        if value.is_constant or not isinstance(op, _WANT_PLANES):
            return tensor
        if layout.actual is Layout.NCHW:
            return tensor
        planes = self.fresh(tensor, "planes")
        self.layout(planes).actual = Layout.NCHW
        self.done.append(TP([tensor], [planes], op.where, kind=tp.TRANSPOSE))
        return planes

    def copy_layout(self, source: Tensor, target: Tensor) -> None:
        """Give a tensor the layouts of another."""
        layout = self.layout(source)
        self.layouts[target] = _Layouts(layout.expected, layout.actual)

    def _outputs(self, op: Op, operation: Operation) -> None:
        """Settle the layouts of results; add a detranspose where users expect another order."""
        for number, value in enumerate(op.results):
            target = operation.outputs[number]
            if self.layout(target) == _Layouts():
                self.copy_layout(self._layout_source(op, operation), target)
            layout = self.layout(target)
            wanted = not self.graph.users(value) and min(target.shape[1:]) > 1
            if wanted and layout.expected is not layout.actual:
                planes = target.like(f"{target.name} (planes)")
                if not isinstance(op, ops.Sub):
                    operation.outputs[number] = planes
                self.done.append(TP([planes], [target], op.where, kind=tp.DETRANSPOSE))

    def _layout_source(self, op: Op, operation: Operation) -> Tensor:
        """Return whose layouts a result takes over: the first operand's, but for SUB (B9)."""
        if isinstance(op, ops.Sub):
            found = [v for v in self.graph.values if v.index == 0]
            return self.tensor(found[0]) if found else operation.inputs[0]
        return operation.inputs[0]


def lower(graph: Graph, chip: Chip) -> Lowered:
    """Return a partition's operations. Raises UnsupportedOperation for what has no form here."""
    return Lowering(graph, chip).run()


def _convolution(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    source, target = inputs[0], state.tensor(op.output)
    if lower_nn.stride_form(op, state.chip).reshuffle:
        same, kernel = lower_nn.pads(op), op.weights.shape[1]
        shape = tp.reshuffled_shape(source.shape, same, kernel)
        blocks = state.fresh(source, "2x2 blocks", shape)
        state.done.append(
            TP([source], [blocks], op.where, kind=tp.RESHUFFLE, same=same, kernel=kernel)
        )
        source = blocks
    state.copy_layout(source, target)
    return NN([source], [target], layer=lower_nn.convolution(op, state.chip))


def _addition(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    return NN(inputs[:2], [state.tensor(op.output)], layer=lower_nn.addition(op, state.chip))


def _fully_connected(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    return NN([inputs[0]], [state.tensor(op.output)], layer=lower_nn.fully_connected(op))


def _concatenation(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    return Concat(inputs, [state.tensor(op.output)])


def _split(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    return Split(inputs[:1], [state.tensor(value) for value in op.outputs])


def _reshape(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    return Bypass(inputs[:1], [state.tensor(op.output)])


def _transpose(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    target = state.tensor(op.output)
    state.layouts[target] = _Layouts(Layout.NCHW, Layout.NCHW)
    return Bypass(inputs[:1], [target])


def _pad(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
    layout = state.layout(inputs[0])
    before, after = op.before[-3:], op.after[-3:]
    planar = (layout.expected, layout.actual) == (Layout.NHWC, Layout.NCHW)
    return TP(
        inputs[:1], [state.tensor(op.output)], kind=tp.PAD, before=before, after=after,
        planar=planar,
    )  # fmt: skip


def _table(kind: str) -> Callable[[Lowering, Any, list[Tensor]], Operation]:
    def lower_table(state: Lowering, op: Any, inputs: list[Tensor]) -> Operation:
        return TP(inputs[:1], [state.tensor(op.output)], kind=kind)

    return lower_table


_LOWER: dict[type[Op], Callable[[Lowering, Any, list[Tensor]], Operation]] = {
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
}
