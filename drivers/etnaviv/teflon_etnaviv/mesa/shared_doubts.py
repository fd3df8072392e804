"""What Mesa 26.2.6 gets wrong of a partition's tensors: layouts and places that nobody expects.

The partition is lowered and its memory planned as Mesa does; what comes out is compared with what
each operation means.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence

from teflon.errors import TeflonError
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Add, Concatenation, Pad, Reshape, Split, Sub, Transpose
from teflon_etnaviv import tensors
from teflon_etnaviv.chips import Chip
from teflon_etnaviv.mesa.lowering import Layout, Lowering
from teflon_etnaviv.mesa.memory_plan import MemoryPlan, plan_tensors
from teflon_etnaviv.mesa.placements import Concat
from teflon_etnaviv.mesa.rules import RULES
from teflon_etnaviv.operations import Lowered
from teflon_etnaviv.tensors import Tensor

# Ref: docs/hardware/etnaviv.md sections 5.4, 6 and 10.3

_TO_PLANES = (0, 3, 1, 2)


@functools.lru_cache(maxsize=8)
def of_partition(graph: Graph, chip: Chip) -> Mapping[Op, Sequence[str]]:
    """Return what comes out wrong of each operation of a partition, as far as tensors decide it.

    Empty where Mesa's way of lowering or of placing them ends in an error.
    """
    state = Lowering(graph, chip)
    try:
        lowered = state.run(RULES)
        plan = plan_tensors(lowered.operations)
    except (TeflonError, ValueError):
        return {}
    view = _View(graph, chip, state, lowered, plan)
    return {op: tuple(dict.fromkeys(view.doubts(op))) for op in graph.ops}


class _View:
    """A partition as Mesa sees it."""

    def __init__(
        self, graph: Graph, chip: Chip, state: Lowering, lowered: Lowered, plan: MemoryPlan
    ) -> None:
        self._graph, self._chip, self._state = graph, chip, state
        self._lowered, self._plan = lowered, plan

    def doubts(self, op: Op) -> Iterator[str]:
        for value in op.results:
            yield from self._result(value)
        if isinstance(op, Pad):
            yield from self._pad(op)
        if isinstance(op, Reshape | Transpose):
            yield from self._bypass(op)
        if isinstance(op, Concatenation):
            yield from self._joined(op)
        if isinstance(op, Split) and self._matters(op.input) and not self._is_planar(op.input):
            yield "the parts of a tensor in rows are taken from planes, Mesa's B14"
        if isinstance(op, Add | Sub):
            yield from self._sum(op)

    def _is_planar(self, value: Value) -> bool:
        return self._state.layout(self._state.tensor(value)).actual is Layout.NCHW

    def _matters(self, value: Value) -> bool:
        """Whether rows and planes are different bytes."""
        _, height, width, channels = self._state.tensor(value).shape
        return height * width > 1 and channels > 1

    def _result(self, value: Value) -> Iterator[str]:
        if not self._graph.is_output(value):
            return
        tensor = self._state.tensor(value)
        layout = self._state.layout(tensor)
        place = self._plan.places.get(tensor)
        if place is not None and place.offset:
            yield "a result is read from the start of the buffer that it is a part of, Mesa's B10"
        if not self._matters(value) or layout.actual is not Layout.NCHW:
            return
        used = bool(self._graph.users(value))
        if used and layout.expected is not layout.actual:
            yield "a result that is also consumed stays in planes, Mesa's B11"
        elif not used and layout.expected is not layout.actual and min(tensor.shape[1:]) == 1:
            yield "a result of one row or one column stays in planes, Mesa's B12"

    def _pad(self, op: Pad) -> Iterator[str]:
        """Ask which axis the jobs share: it is not padded with one job, by one plane with more."""
        layout = self._state.layout(self._state.tensor(op.input))
        planar = (layout.expected, layout.actual) == (Layout.NHWC, Layout.NCHW)
        lies = tensors.Layout.PLANES if planar else tensors.Layout.ROWS
        shared = lies.box(op.before[-3:])[2], lies.box(op.after[-3:])[2]
        one_job = self._state.tensor(op.input).shape[1] == 1 or self._chip.tp_core_count == 1
        axis = "channels" if planar else "height"
        if one_job and any(shared):
            yield f"padding of {axis} is left out, Mesa's B16"
        elif max(shared) > 1:
            yield f"padding of {axis} writes too few planes, Mesa's B16"

    def _bypass(self, op: Reshape | Transpose) -> Iterator[str]:
        """Ask whether the bytes are those that the new shape, or order, means."""
        if not self._matters(op.input):
            return
        wants_planes = isinstance(op, Transpose) and op.perm == _TO_PLANES
        if self._is_planar(op.input) is not wants_planes:
            what = "transposed" if isinstance(op, Transpose) else "reshaped"
            yield f"a tensor is {what} in another order than it lies in, Mesa's B13"
        elif isinstance(op, Transpose) and self._matters(op.output):
            used = bool(self._graph.users(op.output))
            if used if wants_planes else self._graph.is_output(op.output):
                yield "a transposed tensor is read in another order than it lies in, Mesa's B13"

    def _joined(self, op: Concatenation) -> Iterator[str]:
        whole = self._state.tensor(op.output)
        hosts = {whole}
        for operation in self._lowered.operations:  # the whole before it is brought into rows
            if whole in operation.outputs:
                hosts.update(operation.inputs)
        for operation in self._lowered.operations:
            if not isinstance(operation, Concat) or operation.host not in hosts:
                continue
            offset = 0
            for part in operation.parts:
                if not self._lies(part, operation.host, offset):
                    yield "a part of a concatenation is moved to another place, Mesa's B14"
                offset += part.size_bytes

    def _lies(self, tensor: Tensor, base: Tensor, offset: int) -> bool:
        place, home = self._plan.places[tensor], self._plan.places[base]
        return (place.buffer, place.offset) == (home.buffer, home.offset + offset)

    def _sum(self, op: Add | Sub) -> Iterator[str]:
        first, second = self._state.tensor(op.a), self._state.tensor(op.b)
        if op.a is op.b or not self._lies(second, first, first.size_bytes):
            yield "operands of a sum that have other users are moved apart, Mesa's B15"
        planar = [self._is_planar(value) for value in (op.a, op.b)]
        if planar[0] is not planar[1] and self._matters(op.a):
            yield "operands of a sum lie in different orders, Mesa's B15"
        if isinstance(op, Sub) and self._graph.is_output(op.output) and self._matters(op.output):
            layout = self._state.layout(self._state.tensor(op.output))
            if planar[0] or layout.actual is not Layout.NHWC:
                yield "the result of a subtraction stays in planes, Mesa's B9"
