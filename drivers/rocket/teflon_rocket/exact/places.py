# Ref: docs/hardware/rocket_vendor.md §0.11 (concatenation, slices), §1 (surface size rule)
# Ref: docs/hardware/rocket.md §4.1, §6.3 (what the DPU writes)
"""Where values lie: which are parts of others, so that nothing has to be copied.

What a concatenation joins is written to its place by the operations that make it; what is cut from
a map, or has its bytes in another shape, is read where it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeGuard

from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import Quantize
from teflon.ir.types import DType
from teflon_common.boxes import (
    CHANNELS,
    Cut,
    Cutting,
    Joined,
    Joining,
    Reshaping,
    cuts,
    join_axis,
    joined,
    same_pixels,
)
from teflon_common.layout import LANES, image_shape
from teflon_rocket.exact.scales import Affine
from teflon_rocket.exact.spills import spilled
from teflon_rocket.operations.data import Feature, whole_pitch

_HEIGHT, _WIDTH = 1, 2


@dataclass
class Places:
    """The feature map of every computed value; in `gathered` the map in which the inputs of a
    concatenation lie beside each other, in whole surfaces each, where that is not its result.

    hosts: the convolutions that do an addition. plain: makes the map of a value that has a place of
    its own.
    """

    graph: Graph
    hosts: Mapping[Op, Op]
    plain: Callable[[Value], Feature]
    features: dict[Value, Feature] = field(default_factory=dict)
    gathered: dict[Op, Feature] = field(default_factory=dict)

    def find(self) -> None:
        """Find all places: first those that results give to what they are made of, from the last
        operation on, then those of results that are parts of what they are made of.
        """
        for op in reversed(self.graph.ops):
            if isinstance(op, Joining):
                self._join(op)
            elif isinstance(op, Reshaping):
                self._reshape_input(op)
        for value in self.graph.inputs:
            self._own(value)
        for op in self.graph.ops:
            self._results(op)

    def _own(self, value: Value) -> Feature:
        """Return the map of a value, one of its own if it has none yet."""
        return self.features.setdefault(value, self.plain(value))

    def _may_be_part(self, value: Value) -> bool:
        return (
            value not in self.features
            and value not in self.graph.inputs
            and self.graph.producer(value) is not None
        )

    # Results that are parts of operands ----------------------------------------------------------

    def _results(self, op: Op) -> None:
        for value in op.inputs_present:
            if not value.is_constant:
                self._own(value)
        if isinstance(op, Reshaping) or keeps_bytes(op):
            if same_pixels(image_shape(op.input.shape), image_shape(op.output.shape)):
                self._put(op.output, self.features[op.input], 0)
        elif isinstance(op, Cutting):
            for cut in cuts(op):
                source = self.features[op.input]
                start = start_of(cut, source)
                if start is not None:
                    self._put(cut.value, source, start)
        for value in op.results:
            self._own(value)

    def _put(self, value: Value, source: Feature, start: int) -> None:
        """Let a value be a part of another one's map; outputs are never parts of inputs."""
        found = [self.features[v] for v in self.graph.inputs if v in self.features]
        given = any(feature.root is source.root for feature in found)
        if value in self.features or (given and self.graph.is_output(value)):
            return
        self.features[value] = self._part(value, source, start)

    def _part(self, value: Value, source: Feature, start: int) -> Feature:
        own = self.plain(value)
        found = source.part(own.name, own.shape, start, value)
        return dataclasses.replace(found, flip=own.flip, fill=own.fill, layout="surfaces")

    # Operands that are parts of results ----------------------------------------------------------

    def _reshape_input(self, op: Reshaping) -> None:
        """Let what is reshaped lie where the result has its place already."""
        found, shapes = self.features.get(op.output), (op.input.shape, op.output.shape)
        if found is None or not self._may_be_part(op.input):
            return
        if same_pixels(*map(image_shape, shapes)):
            self.features[op.input] = self._part(op.input, found, 0)

    def _join(self, op: Joining) -> None:
        axis, parts = join_axis(op), list(joined(op))
        if axis < 0:
            return
        base = self._own(op.output)
        if axis == CHANNELS and any(part.begin % LANES for part in parts):
            base = self._gather(op, parts)
            begins = gathered_surfaces(parts)
            affine = gathered_affine(op)
        else:
            begins = [part.begin // LANES for part in parts]
            affine = Affine.of(op.output.type)
        taken: list[tuple[int, Value]] = []
        for number, part in enumerate(parts):
            if base.shape[0] != 1 or not self._fits(part, affine):
                continue
            if axis == CHANNELS:
                start = begins[number] * base.surface_bytes
                if not self._in_order(begins[number], part, taken):
                    continue
                taken.append((begins[number], part.value))
            elif axis == _HEIGHT or (axis == _WIDTH and base.shape[_HEIGHT] == 1):
                start = part.begin * (base.shape[2] if axis == _HEIGHT else 1) * LANES
            else:
                continue
            self.features[part.value] = self._part(part.value, base, start)

    def _gather(self, op: Joining, parts: list[Joined]) -> Feature:
        images, height, width, _ = image_shape(op.output.shape)
        whole = self.plain(op.output)
        surfaces = sum(-(-part.shape[3] // LANES) for part in parts)
        gathered = dataclasses.replace(
            whole, name=f"{whole.name}/gathered", value=None,
            shape=(images, height, width, surfaces * LANES), pitch=whole_pitch(height, width),
        )  # fmt: skip
        return self.gathered.setdefault(op, gathered)

    def _fits(self, part: Joined, affine: Affine) -> bool:
        """Whether an input of a concatenation can lie in it: as the same pixels, on its scale."""
        value = part.value
        return (
            self._may_be_part(value)
            and same_pixels(image_shape(value.shape), part.shape)
            and Affine.of(value.type) == affine
        )

    def _in_order(self, begin: int, part: Joined, taken: list[tuple[int, Value]]) -> bool:
        """Whether nothing that is written before is lost to what others write behind their own."""
        written = self._first(part.value)
        for first, value in taken:
            surfaces = -(-image_shape(value.shape)[CHANNELS] // LANES)
            reach = first + surfaces + spilled(self.graph, self.hosts, value)
            if reach > begin and self._last(value) >= written:
                return False
        return True

    def _last(self, value: Value) -> int:
        """Return when a value is complete, as the number of an operation."""
        producer = self.graph.producer(value)
        return -1 if producer is None else self._numbers[producer]

    def _first(self, value: Value) -> int:
        """Return when the first byte of a value may be written."""
        producer = self.graph.producer(value)
        if producer is None:
            return -1
        return self._beginnings[producer]

    @cached_property
    def _beginnings(self) -> dict[Op, int]:
        """When the first byte of an operation's results may be written."""
        found: dict[Op, int] = {}
        for op, number in self._numbers.items():
            found[op] = number
            if isinstance(op, Reshaping | Joining):
                before = (self.graph.producer(value) for value in op.inputs_present)
                found[op] = min(-1 if p is None else found[p] for p in before)
        return found

    @cached_property
    def _numbers(self) -> dict[Op, int]:
        return {op: number for number, op in enumerate(self.graph.ops)}


def keeps_bytes(op: Op) -> TypeGuard[Quantize]:
    """Whether it is a change of type alone: the NPU's bytes of uint8 and int8 are the same."""
    if not isinstance(op, Quantize):
        return False
    return Affine.of(op.input.type) == Affine.of(op.output.type)


def gathered_surfaces(parts: list[Joined]) -> list[int]:
    """Return the surface with which each input begins where all lie in whole surfaces."""
    counts = [-(-part.shape[3] // LANES) for part in parts]
    return [sum(counts[:number]) for number in range(len(counts))]


def gathered_affine(op: Joining) -> Affine:
    """Return the scale of what is gathered: that of all inputs if it is one, else the result's."""
    found = {Affine.of(value.type) for value in op.inputs}
    return found.pop() if len(found) == 1 else Affine.of(op.output.type)


def start_of(cut: Cut, source: Feature) -> int | None:
    """Return the bytes from the beginning of a map to a box of it that can be read in place: rows
    without gaps, whole surfaces before it; None for another one.
    """
    images, _, width, _ = source.shape
    n, y, x, c = cut.begin
    count, rows, columns, _ = cut.size
    full_rows = columns == width or rows == 1
    if not cut.contiguous or c % LANES or not full_rows:
        return None
    if not same_pixels((count, *cut.size[1:]), image_shape(cut.value.shape)):
        return None
    if not (count == 1 or (count == images and n == 0)):
        return None
    surface = c // LANES
    pixels = y * width + x
    return n * source.image_bytes + surface * source.surface_bytes + pixels * LANES


def default_feature(value: Value, whole: bool) -> Feature:
    """Return the map of a value that has a place of its own; whole: surfaces are whole 64 bytes."""
    flip = 0x80 if value.type.dtype is DType.UINT8 else 0
    zero = Affine.of(value.type).zero & 0xFF
    shape = image_shape(value.shape)
    pitch = whole_pitch(*shape[1:3]) if whole else 0
    return Feature(value.name, shape, value, "surfaces", flip, zero ^ 0x80, pitch)
