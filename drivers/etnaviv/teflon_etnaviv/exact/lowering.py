"""From a partition's graph to operations, strategy `exact`: layouts and places are explicit.

Every value has up to two tensors: its bytes in rows (what graph inputs, outputs and reshapes are)
and in planes (what the NN cores read and write). Where an operation needs the layout that does not
exist yet, one TP job makes it, once for all who need it. A tensor can live inside another one (the
parts of a concatenation, both operands of an addition); one that already lives somewhere else is
copied.

How each operation is lowered stands in `exact/rules`.

Ref: docs/hardware/etnaviv.md sections 5, 6 and 10.3 (the B numbers)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from teflon.ir.graph import Graph, Op, Value
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import functions
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.layers import activation
from teflon_etnaviv.exact.layers.activation import Activated
from teflon_etnaviv.exact.layers.sums import sum_of_tables
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.operations import Lowered, Operation
from teflon_etnaviv.tensors import Box, Layout, Tensor
from teflon_etnaviv.tp.curves import curves
from teflon_etnaviv.tp.layouts import Detranspose, Transpose
from teflon_etnaviv.tp.pad import NOTHING, Pad
from teflon_etnaviv.tp.tables import Fitted

Lower = Callable[..., None]
"""Lowers an operation into a partition: (op, state)."""


def same_order(tensor: Tensor) -> bool:
    """Whether rows and planes are the same bytes: one channel, or one pixel."""
    return tensor.shape[3] == 1 or tensor.shape[1] * tensor.shape[2] == 1


@dataclass
class Lowering:
    """One partition being lowered."""

    graph: Graph
    chip: Chip
    known: dict[tuple[Value, Layout], Tensor] = field(default_factory=dict)
    done: list[Operation] = field(default_factory=list)
    places: dict[Tensor, tuple[Tensor, int]] = field(default_factory=dict)

    def run(self, rules: Rules[Chip, Lower]) -> Lowered:
        """Lower every operation, bring the outputs into rows.

        Raises UnsupportedOperation for an operation that no rule lowers.
        """
        inputs = [self.define(value, Layout.ROWS) for value in self.graph.inputs]
        for op in self.graph.ops:
            rules.lowering(op)(op, self)
        outputs = [self.get(value, Layout.ROWS) for value in self.graph.outputs]
        return Lowered(tuple(self.done), tuple(inputs), tuple(outputs), self.places)

    def add(self, operation: Operation) -> None:
        """Append an operation."""
        self.done.append(operation)

    def define(self, value: Value, layout: Layout) -> Tensor:
        """Make the tensor of a value in a layout; in both where their bytes are the same."""
        tensor = self.known[value, layout] = Tensor.of(value)
        if same_order(tensor):
            self.known[value, layout.other] = tensor
        return tensor

    def get(self, value: Value, layout: Layout) -> Tensor:
        """Return the tensor of a value in a layout; add the TP job that makes it where needed."""
        found = self.known.get((value, layout))
        if found is not None:
            return found
        source = self.known[value, layout.other]
        made = Tensor.of(value).like(f"{value.name} ({layout.name.lower()})")
        kind = Detranspose if layout is Layout.ROWS else Transpose
        self.add(kind(value.name, (source,), (made,)))
        self.known[value, layout] = made
        return made

    def any_layout(self, value: Value) -> Layout:
        """Return a layout in which a value exists, planes first."""
        return Layout.PLANES if (value, Layout.PLANES) in self.known else Layout.ROWS

    def live_inside(self, tensor: Tensor, host: Tensor, offset: int) -> Tensor:
        """Put a tensor at an offset of another one: itself, or a copy if it lives elsewhere."""
        if tensor not in self.places and not self._hosts(tensor, host):
            self.places[tensor] = (host, offset)
            return tensor
        copy = tensor.like(f"{tensor.name} (copy)")
        self.pad(tensor.name, tensor, copy, Layout.PLANES)
        self.places[copy] = (host, offset)
        return copy

    def _hosts(self, tensor: Tensor, host: Tensor) -> bool:
        """Whether `host` lives inside `tensor`, so that neither could live in the other."""
        while host in self.places:
            host = self.places[host][0]
        return host is tensor

    def pad(
        self,
        name: str,
        source: Tensor,
        target: Tensor,
        layout: Layout,
        before: Box = NOTHING,
        after: Box = NOTHING,
    ) -> None:
        """Append padding by so many (rows, columns, channels)."""
        size = layout.box(source.sizes)
        jobs = 1 if source.shape[1] == 1 else min(self.chip.tp_jobs, size[2])
        sides = layout.box(before), layout.box(after)
        self.add(Pad(name, (source,), (target,), size, *sides, jobs))

    def alike(self, value: Value, result: Value) -> tuple[Tensor, Tensor]:
        """Return a value in a layout in which it exists, and the tensor of a result that lies so,
        too.
        """
        layout = self.any_layout(value)
        return self.get(value, layout), self.define(result, layout)

    def tabulate(self, op: Op) -> None:
        """Append what computes an operation that is a function of one tensor's bytes."""
        value = functions.operand(op)
        assert value is not None, "a rule asks for it"
        self.look_up(op.where, *self.alike(value, op.results[0]), functions.function(op))

    def mapped(self, name: str, source: Tensor, function: bytes | None) -> Tensor:
        """Return what a function of a byte makes of a tensor; the tensor itself without one."""
        if function is None:
            return source
        made = source.like(f"{source.name} (table)")
        self.look_up(name, source, made, function)
        return made

    def unclamped(self, op: Activated, target: Tensor) -> Tensor:
        """Return what the NN cores write of an operation: its result, or that before a clamp that
        is none of theirs (`clamp`).
        """
        if activation.is_plain(op):
            return target
        return target.like(f"{target.name} (before its clamp)")

    def clamp(self, op: Activated, source: Tensor, target: Tensor) -> None:
        """Append the clamp of an operation where `unclamped` made a tensor for it."""
        if source is not target:
            function = functions.clamping(*activation.integer_range(op), op.output.type)
            self.look_up(target.name, source, target, function)

    def look_up(self, name: str, source: Tensor, target: Tensor, function: bytes) -> None:
        """Append a function of a byte: a table, or several whose results are added.

        function: what the 256 bytes of the device become.
        """
        rows = source.shape[1]
        jobs = 1 if rows < Fitted.shared_from else min(self.chip.tp_jobs, rows)
        found = curves(function, source.zero_point)
        if len(found) == 1:
            self.add(Fitted(name, (source,), (target,), jobs, curve=found[0]))
            return
        parts = [target.like(f"{target.name} (table {n})") for n in range(len(found))]
        size = source.size_bytes
        whole = target.like(f"{target.name} (tables)", (1, 1, 1, size * len(parts)))
        for number, (part, curve) in enumerate(zip(parts, found, strict=True)):
            self.places[part] = (whole, number * size)
            self.add(Fitted(name, (source,), (part,), jobs, curve=curve))
        layer = sum_of_tables(size, len(parts), self.chip)
        self.add(NN(name, tuple(parts), (target,), layer, CODING))

    def requantised(self, source: Tensor, target: Tensor) -> Tensor:
        """Return a tensor in the quantisation of another: itself, or what a table makes of it."""
        if (source.scale, source.zero_point) == (target.scale, target.zero_point):
            return source
        made = target.like(f"{source.name} (requantised)", source.shape)
        self.look_up(source.name, source, made, functions.requantising(source, target))
        return made
