"""From a partition's graph to operations, strategy `exact`: layouts and places are explicit.

Every value has up to two tensors: its bytes in rows (what graph inputs, outputs and reshapes are)
and in planes (what the NN cores read and write). Where an operation needs the layout that does not
exist yet, one TP job makes it, once for all who need it. A tensor can live inside another one (the
parts of a concatenation, both operands of an addition); one that already lives somewhere else is
copied.

Planes may lie in another order than the channels (`shuffled`): what a layer with a scale for each
channel leaves behind. Who can permute its constants takes them as they are (`planes`); for all
others one job of the NN cores brings them into order.

How each operation is lowered stands in `exact/rules`.

Ref: docs/hardware/etnaviv.md sections 5, 6 and 10.3 (the B numbers)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Mul, Sub
from teflon_common.rules import Rules
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.exact import batches, functions, repeats
from teflon_etnaviv.exact.coding import CODING
from teflon_etnaviv.exact.grouping.expected import Expected
from teflon_etnaviv.exact.grouping.kernels import Order
from teflon_etnaviv.exact.grouping.modes import MODES, Mode
from teflon_etnaviv.exact.layers import activation
from teflon_etnaviv.exact.layers.activation import Activated
from teflon_etnaviv.exact.layers.reorder import reorder
from teflon_etnaviv.exact.layers.sums import sum_of_tables
from teflon_etnaviv.grouped import Grouped
from teflon_etnaviv.nn.operation import NN
from teflon_etnaviv.operations import Lowered, Operation
from teflon_etnaviv.tensors import Box, Layout, Tensor
from teflon_etnaviv.tp.curves import curves
from teflon_etnaviv.tp.layouts import Detranspose, Transpose
from teflon_etnaviv.tp.pad import NOTHING, Pad
from teflon_etnaviv.tp.tables import Fitted

Paired = Add | Mul | Sub
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
    shuffled: dict[Value, tuple[Tensor, Order]] = field(default_factory=dict)
    mode: Mode = MODES["balanced"]
    grouped: list[Grouped] = field(default_factory=list)
    _orders: dict[Tensor, list[int]] = field(default_factory=dict)
    images: dict[Value, tuple[Value, ...]] = field(default_factory=dict)

    @cached_property
    def expected(self) -> Expected:
        """What inputs of layers are expected to be; made for those with several scales."""
        return Expected(self.graph)

    def run(self, rules: Rules[Chip, Lower]) -> Lowered:
        """Lower every operation, bring the outputs into rows.

        Raises UnsupportedOperation for an operation that no rule lowers.
        """
        inputs = [self.define(value, Layout.ROWS) for value in self.graph.inputs]
        for op in self.graph.ops:
            for each in self._repeated(op):
                rules.lowering(each)(each, self)
        outputs = [self._output(value) for value in self.graph.outputs]
        return Lowered(
            operations=tuple(self.done),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            places=self.places,
            orders=self._orders,
            grouped=tuple(self.grouped),
        )

    def _output(self, value: Value) -> Tensor:
        """Return a result in rows; the host's copy brings its channels into order."""
        found = self.shuffled.get(value)
        if found is None or (value, Layout.PLANES) in self.known:
            return self.get(value, Layout.ROWS)
        source, order = found
        rows = source
        if not same_order(source):
            rows = source.like(f"{value.name} (rows)")
            self.add(Detranspose(value.name, (source,), (rows,)))
        self._orders[rows] = order.tolist()
        return rows

    def _repeated(self, op: Op) -> list[Op]:
        """Return an operation for each image of a batch."""
        count = batches.batch(op)
        if count == 1:
            return [op]
        for result in op.results:
            self.images[result] = tuple(batches.image(result, n) for n in range(count))
        return [batches.on(op, partial(self._image, number=n)) for n in range(count)]

    def _image(self, value: Value, number: int) -> Value:
        """Return an image of a batch, which lives inside of it where the batch exists."""
        if value not in self.images:
            whole = self.get(value, Layout.ROWS)
            count = value.shape[0]
            parts = tuple(batches.image(value, n) for n in range(count))
            for n, part in enumerate(parts):
                tensor = self.define(part, Layout.ROWS)
                self.places[tensor] = (whole, n * tensor.size_bytes)
            self.images[value] = parts
        return self.images[value][number]

    def _joined(self, value: Value) -> None:
        """Let the images of a batch live inside of it."""
        whole, offset = self.define(value, Layout.ROWS), 0
        for part in self.images[value]:
            tensor = self.get(part, Layout.ROWS)
            self.live_inside(tensor, whole, offset)
            offset += tensor.size_bytes

    def add(self, operation: Operation) -> None:
        """Append an operation."""
        self.done.append(operation)

    def planes(self, value: Value) -> tuple[Tensor, Order | None]:
        """Return a value in planes, and the channel that lies in each; None where all lie in their
        own.
        """
        if (value, Layout.PLANES) in self.known or value not in self.shuffled:
            return self.get(value, Layout.PLANES), None
        return self.shuffled[value]

    def rows(self, value: Value) -> tuple[Tensor, Order | None]:
        """Return a value in rows; where it has one pixel, in the order in which its channels lie,
        too.
        """
        if value in self.shuffled and same_order(self.shuffled[value][0]):
            return self.planes(value)
        return self.get(value, Layout.ROWS), None

    def define_planes(
        self, value: Value, order: Order | None, layout: Layout = Layout.PLANES
    ) -> Tensor:
        """Make the tensor of a value in planes, in which these channels lie; in another layout
        where all lie in their own.
        """
        if order is None or (order[1:] > order[:-1]).all():
            return self.define(value, layout)
        tensor = Tensor.of(value)
        self.shuffled[value] = tensor, order
        return tensor

    def part(self, tensor: Tensor, first: int, channels: int) -> Tensor:
        """Return some planes of a tensor, which live inside of it; the tensor where it is all."""
        height, width, planes = tensor.sizes
        if channels == planes:
            return tensor
        found = tensor.like(f"{tensor.name} ({first}..)", (1, height, width, channels))
        self.places[found] = tensor, first * height * width
        return found

    def reordered(self, name: str, source: Tensor, planes: Order, target: Tensor) -> None:
        """Append the job that puts plane `planes[k]` into plane k."""
        layer = reorder(source, planes, name)
        self.add(NN(name, (source,), (target,), layer, CODING))

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
        if value in self.images and (value, layout.other) not in self.known:
            self._joined(value)
            return self.get(value, layout)
        if value in self.shuffled and (value, Layout.PLANES) not in self.known:
            shuffled, order = self.shuffled[value]
            planes = self.define(value, Layout.PLANES)
            self.reordered(value.name, shuffled, np.argsort(order), planes)
            return self.get(value, layout)
        source = self.known[value, layout.other]
        made = Tensor.of(value).like(f"{value.name} ({layout.name.lower()})")
        kind = Detranspose if layout is Layout.ROWS else Transpose
        self.add(kind(value.name, (source,), (made,)))
        self.known[value, layout] = made
        return made

    def any_layout(self, value: Value) -> Layout:
        """Return a layout in which a value exists, planes first."""
        planes = (value, Layout.PLANES) in self.known or value in self.shuffled
        return Layout.PLANES if planes else Layout.ROWS

    def alike(self, value: Value, result: Value) -> tuple[Tensor, Tensor]:
        """Return a value in a layout and order in which it exists, and the tensor of a result that
        lies so, too.
        """
        if self.any_layout(value) is Layout.ROWS:
            return self.get(value, Layout.ROWS), self.define(result, Layout.ROWS)
        source, order = self.planes(value)
        return source, self.define_planes(result, order)

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

    def operands(self, op: Paired) -> tuple[Tensor, Tensor, Layout]:
        """Return both operands of an operation with as many elements as the result has, and the
        layout in which they are: one that an operand has, unless one must be repeated.
        """
        layout = repeats.layout(op.a, op.b, op.output.shape)
        if layout is None:
            both = {self.any_layout(op.a), self.any_layout(op.b)}
            layout = Layout.PLANES if Layout.PLANES in both else Layout.ROWS
        target = Tensor.of(op.output)
        a, b = (self.repeated(self.get(value, layout), target) for value in (op.a, op.b))
        return a, b, layout

    def repeated(self, source: Tensor, shape: Tensor) -> Tensor:
        """Return a tensor's bytes as many times, one behind the other, as another one's size says.

        Each job doubles what there is.
        """
        size, count = source.size_bytes, shape.size_bytes // source.size_bytes
        if count == 1:
            return source
        whole = source.like(f"{source.name} ({count} times)", shape.shape)
        self.live_inside(source, whole, 0)
        done = 1
        while done < count:
            more = min(done, count - done)
            first, copy = (source.like(f"{source.name} (copy)", (1, more, 1, size)) for _ in "ab")
            self.places[first], self.places[copy] = (whole, 0), (whole, done * size)
            self.pad(source.name, first, copy, Layout.ROWS)
            done += more
        return whole

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
