"""Which buffer each tensor lives in: creation, aliasing and reuse in Mesa's order.

Ref: docs/hardware/etnaviv.md sections 2.3 and 6.4
Ref: Mesa, src/gallium/drivers/etnaviv/etnaviv_ml.c and src/etnaviv/drm/etnaviv_bo_cache.c
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from teflon.errors import EncodingError
from teflon_etnaviv.memory import Place
from teflon_etnaviv.mesa.placements import Placement
from teflon_etnaviv.operations import Operation
from teflon_etnaviv.rounding import align
from teflon_etnaviv.tensors import Tensor

PAGE = 4096
_CACHED_MAX = 64 << 20


def _buckets() -> list[int]:
    sizes, size = [4096, 8192, 12288], 16384
    while size <= _CACHED_MAX:
        sizes += [size + size * quarter // 4 for quarter in range(4)]
        size *= 2
    return [s for s in sizes if s <= _CACHED_MAX]


_BUCKETS = _buckets()


def bucket(size: int) -> int:
    """Return the size that is asked of the kernel for so many bytes."""
    pages = align(max(size, 1), PAGE)
    return next((b for b in _BUCKETS if b >= pages), pages)


@dataclass
class MemoryPlan:
    """Buffers in creation order, and the places of tensors in them."""

    sizes: list[int] = field(default_factory=list)  # as asked of the kernel
    places: dict[Tensor, Place] = field(default_factory=dict)
    _free: dict[int, list[int]] = field(default_factory=dict)  # by size, oldest first

    def allocate(self, size: int) -> int:
        """Return a buffer: a freed one of the same bucket, else a new one."""
        rounded = bucket(size)
        waiting = self._free.get(rounded)
        if waiting:
            return waiting.pop(0)
        self.sizes.append(rounded)
        return len(self.sizes) - 1

    def _release(self, buffer: int) -> None:
        self._free.setdefault(self.sizes[buffer], []).append(buffer)

    def _sharing(self, buffer: int) -> list[Tensor]:
        return [t for t, place in self.places.items() if place.buffer == buffer]

    def create(self, tensor: Tensor, size: int | None = None) -> None:
        """Give a tensor a buffer of its own, unless it has a place.

        Raises EncodingError where it has one of another size: aliases are in conflict.
        """
        size = tensor.size_bytes if size is None else size
        place = self.places.get(tensor)
        if place is None:
            self.places[tensor] = Place(self.allocate(size), 0, size)
        elif place.size != size:
            raise EncodingError(
                f"counted with {place.size} bytes, must be {size}"
                " (two operations want it in different places)",
                where=f"tensor {tensor.name!r}",
            )

    def refer(self, tensor: Tensor, base: Tensor, offset: int, size: int) -> None:
        """Put a tensor, and all that share its buffer, into the buffer of another."""
        buffer = self.places[base].buffer
        old = self.places.get(tensor)
        if old is None:
            self.places[tensor] = Place(buffer, offset, size)
            return
        for other in self._sharing(old.buffer):
            self.places[other] = Place(buffer, offset, size)
        if old.buffer != buffer:
            self._release(old.buffer)

    def recreate(self, tensor: Tensor, size: int) -> None:
        """Give a tensor, and all that share its buffer, a new buffer of this size."""
        old = self.places.pop(tensor, None)
        if old is None:
            self.places[tensor] = Place(self.allocate(size), 0, size)
            return
        others = self._sharing(old.buffer)
        if not others:
            self._release(old.buffer)
        buffer = self.allocate(size)
        for other in [tensor, *others]:
            offset = old.offset if other is tensor else self.places[other].offset
            self.places[other] = Place(buffer, offset, size)
        if others:
            self._release(old.buffer)


def plan_tensors(operations: Sequence[Operation]) -> MemoryPlan:
    """Return the plan with a place for every tensor that operations read or write."""
    plan = MemoryPlan()
    for op in operations:
        _place_inputs(plan, op)
    for op in operations:
        if op.outputs[0] not in plan.places:
            plan.create(op.outputs[0])
    return plan


def _place_inputs(plan: MemoryPlan, op: Operation) -> None:
    if isinstance(op, Placement):
        plan.create(op.host)
        offset = 0
        for part in op.parts:
            plan.refer(part, op.host, offset, part.size_bytes)
            offset += part.size_bytes
    elif len(op.inputs) > 1:  # one behind the other
        first, second = op.inputs
        plan.recreate(first, first.size_bytes + second.size_bytes)
        plan.refer(second, first, first.size_bytes, second.size_bytes)
    else:
        for source in op.inputs:
            if source not in plan.places:
                plan.create(source)
