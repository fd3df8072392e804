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

from teflon.ir.graph import Graph, Value
from teflon_common.layout import image_shape
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.operations import Lowered, Operation
from teflon_etnaviv.tensors import Box, Layout, Tensor
from teflon_etnaviv.tp.layouts import Detranspose, Transpose
from teflon_etnaviv.tp.pad import NOTHING, Pad
from teflon_etnaviv.tp.tables import Requantise, Table

Lower = Callable[..., None]
"""Lowers an operation into a partition: (op, state)."""


def tensor_of(value: Value) -> Tensor:
    """Return the tensor of a value; several images lie below one another, as rows of one."""
    images, height, width, channels = image_shape(value.shape)
    return Tensor.of(value).like(value.name, (1, images * height, width, channels))


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
        tensor = self.known[value, layout] = tensor_of(value)
        if same_order(tensor):
            self.known[value, layout.other] = tensor
        return tensor

    def get(self, value: Value, layout: Layout) -> Tensor:
        """Return the tensor of a value in a layout; add the TP job that makes it where needed."""
        found = self.known.get((value, layout))
        if found is not None:
            return found
        source = self.known[value, layout.other]
        made = source.like(f"{value.name} ({layout.name.lower()})")
        kind = Detranspose if layout is Layout.ROWS else Transpose
        self.add(kind(value.name, (source,), (made,)))
        self.known[value, layout] = made
        return made

    def any_layout(self, value: Value) -> Layout:
        """Return a layout in which a value exists, planes first."""
        return Layout.PLANES if (value, Layout.PLANES) in self.known else Layout.ROWS

    def layouts(self, value: Value) -> tuple[Layout, ...]:
        """Return the layouts in which a value exists, planes first."""
        both = (Layout.PLANES, Layout.ROWS)
        return tuple(layout for layout in both if (value, layout) in self.known)

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
        filler: int | None = None,
    ) -> None:
        """Append padding by so many (rows, columns, channels)."""
        size = layout.box(source.sizes)
        jobs = 1 if source.shape[1] == 1 else min(self.chip.tp_jobs, size[2])
        sides = layout.box(before), layout.box(after)
        self.add(Pad(name, (source,), (target,), size, *sides, jobs, filler))

    def look_up(self, name: str, source: Tensor, target: Tensor, kind: type[Table]) -> None:
        """Append a lookup table."""
        rows = source.shape[1]
        jobs = 1 if rows < kind.shared_from else min(self.chip.tp_jobs, rows)
        self.add(kind(name, (source,), (target,), jobs))

    def requantised(self, source: Tensor, target: Tensor) -> Tensor:
        """Return a tensor in the quantisation of another: itself, or what a table makes of it."""
        if (source.scale, source.zero_point) == (target.scale, target.zero_point):
            return source
        made = target.like(f"{source.name} (requantised)", source.shape)
        self.look_up(source.name, source, made, Requantise)
        return made
