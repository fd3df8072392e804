"""From a partition's graph to operations on tensors with known layouts, in Mesa's way.

Graph inputs and outputs are NHWC; between NN operations data lies in planes (NCHW). Every tensor
has the layout that its users expect and the one that it really has; where an operation needs
planes and does not get them, a transpose is put before it.

How each operation is lowered stands in `mesa/rules`.

Ref: docs/hardware/etnaviv.md sections 6.1 to 6.3
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml.c (lower_operations)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from teflon.ir.graph import Graph, Op, Value
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.mesa.limits import Limits
from teflon_etnaviv.operations import Lowered, Operation
from teflon_etnaviv.tensors import Shape, Tensor
from teflon_etnaviv.tp.layouts import Detranspose, Transpose


class Layout(enum.Enum):
    """Order of a tensor's bytes."""

    ANY = 0
    NHWC = 1
    NCHW = 2


@dataclass
class Layouts:
    """The layout that a tensor's users expect, and the one that it has."""

    expected: Layout = Layout.ANY
    actual: Layout = Layout.ANY


Lower = Callable[..., Operation]
"""Lowers an operation of a partition: (op, state)."""


@dataclass
class Lowering:
    """One partition being lowered."""

    graph: Graph
    chip: Chip
    tensors: dict[Value, Tensor] = field(default_factory=dict)
    layouts: dict[Tensor, Layouts] = field(default_factory=dict)
    sources: dict[Tensor, Tensor] = field(default_factory=dict)
    """Whose layouts a result takes over, where it is not its operation's first input."""
    done: list[Operation] = field(default_factory=list)

    def run(self, rules: Rules[Limits, Lower]) -> Lowered:
        """Lower every operation. Raises UnsupportedOperation for one that no rule lowers."""
        for op in self.graph.ops:
            self._finish(op, rules.lowering(op)(op, self))
        return Lowered(
            tuple(self.done),
            tuple(self.tensor(v) for v in self.graph.inputs),
            tuple(self.tensor(v) for v in self.graph.outputs),
        )

    def tensor(self, value: Value) -> Tensor:
        """Return the tensor of a value, one and the same each time."""
        if value not in self.tensors:
            self.tensors[value] = Tensor.of(value)
        return self.tensors[value]

    def layout(self, tensor: Tensor) -> Layouts:
        """Return what is known of a tensor's layout."""
        return self.layouts.setdefault(tensor, Layouts())

    def copy_layout(self, source: Tensor, target: Tensor) -> None:
        """Give a tensor the layouts of another."""
        layout = self.layout(source)
        self.layouts[target] = Layouts(layout.expected, layout.actual)

    def fresh(self, tensor: Tensor, what: str, shape: Shape | None = None) -> Tensor:
        """Return a new tensor with the layouts of another."""
        new = tensor.like(f"{tensor.name} ({what})", shape)
        self.copy_layout(tensor, new)
        return new

    def read(self, value: Value) -> Tensor:
        """Return the tensor of an operand that may have any layout."""
        tensor = self.tensor(value)
        if self.graph.producer(value) is None:
            layout = self.layout(tensor)
            layout.expected = layout.actual = Layout.NHWC
        return tensor

    def read_planes(self, op: Op, value: Value) -> Tensor:
        """Return the tensor of an operand in planes: itself, or a transposed copy of its own."""
        tensor = self.read(value)
        if self.layout(tensor).actual is Layout.NCHW:
            return tensor
        planes = self.fresh(tensor, "planes")
        self.layout(planes).actual = Layout.NCHW
        self.done.append(Transpose(op.where, (tensor,), (planes,)))
        return planes

    def _finish(self, op: Op, operation: Operation) -> None:
        """Settle the layouts of results; append the operation, and a detranspose for each result
        whose users expect another order.
        """
        behind: list[Operation] = []
        for number, value in enumerate(op.results):
            target = operation.outputs[number]
            if self.layout(target) == Layouts():
                self.copy_layout(self.sources.get(target, operation.inputs[0]), target)
            layout = self.layout(target)
            wanted = not self.graph.users(value) and min(target.shape[1:]) > 1
            if wanted and layout.expected is not layout.actual:
                planes = target.like(f"{target.name} (planes)")
                behind.append(Detranspose(op.where, (planes,), (target,)))
                operation = operation.writing(number, planes)
        self.done += [operation, *behind]
