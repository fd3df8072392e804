"""The GPU addresses of one open file: what the kernel's MMU context and its `drm_mm` keep.

A buffer gets its address with the first submit that lists it, and keeps it afterwards. A submit
that runs holds the addresses of its buffers; others are given up when their place is wanted.

Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_mmu.c (etnaviv_iommu_map_gem, _insert_exact, _find_iova)
Ref: Linux, drivers/gpu/drm/etnaviv/etnaviv_gem.c (etnaviv_gem_mapping_get)
"""

from __future__ import annotations

import bisect
import errno
import operator
from dataclasses import dataclass

from teflon_common.fake_drm import BufferObject, refuse
from teflon_etnaviv.uapi import COMMANDS_BYTES, SPACE_END, SPACE_START

_PAGE = 4096
_start = operator.attrgetter("start")


@dataclass(eq=False)
class Mapping:
    """A buffer at its address; `uses` counts the submits that hold it there."""

    bo: BufferObject | None  # None: the kernel's own
    start: int
    size: int
    uses: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


class AddressMap:
    """Which buffers lie where. Not safe against threads: the kernel's lock is held around it."""

    def __init__(self) -> None:
        commands = Mapping(None, SPACE_START, COMMANDS_BYTES, uses=1)
        self._placed = [commands]  # by address
        self._of: dict[BufferObject, Mapping] = {}  # in the order in which they were mapped

    def __contains__(self, bo: BufferObject) -> bool:
        return bo in self._of

    def hold(self, bo: BufferObject, at: int) -> Mapping:
        """Return a buffer's mapping for a submit: `at` an address, or anywhere (0).

        One that is held already stays where it is. Raises OSError ENOSPC where no room is, EINVAL
        for an address that is not page aligned.
        """
        mapping = self._of.get(bo)
        if mapping is not None and (mapping.uses or not at or mapping.start == at):
            mapping.uses += 1
            return mapping
        if mapping is not None:
            self._give_up(mapping)
        mapping = self._placed_at(bo, at) if at else self._placed_anywhere(bo)
        mapping.uses = 1
        return mapping

    def release(self, bo: BufferObject) -> None:
        """End one submit's hold on a buffer's address."""
        self._of[bo].uses -= 1

    def drop(self, bo: BufferObject) -> None:
        """Forget a buffer that is freed."""
        if (mapping := self._of.get(bo)) is not None:
            self._give_up(mapping)

    def _give_up(self, mapping: Mapping) -> None:
        assert mapping.bo is not None
        self._placed.remove(mapping)
        del self._of[mapping.bo]

    def _put(self, bo: BufferObject, start: int) -> Mapping:
        mapping = self._of[bo] = Mapping(bo, start, bo.mapped_bytes)
        bisect.insort(self._placed, mapping, key=_start)
        return mapping

    def _between(self, start: int, end: int) -> list[Mapping]:
        """Return what overlaps a range."""
        first = max(bisect.bisect_right(self._placed, start, key=_start) - 1, 0)
        last = bisect.bisect_left(self._placed, end, key=_start)
        return [m for m in self._placed[first:last] if m.end > start]

    def _placed_at(self, bo: BufferObject, start: int) -> Mapping:
        end = start + bo.mapped_bytes
        if start < SPACE_START or end > SPACE_END:
            raise refuse(errno.ENOSPC)
        there = self._between(start, end)
        if any(other.uses for other in there):
            raise refuse(errno.ENOSPC)
        for other in there:
            self._give_up(other)
        if start % _PAGE:
            raise refuse(errno.EINVAL)
        return self._put(bo, start)

    def _placed_anywhere(self, bo: BufferObject) -> Mapping:
        """Take the lowest gap; make one of what is not held, the longest mapped first."""
        size = bo.mapped_bytes
        start = self._gap(size, self._placed)
        if start is None:
            idle = [m for m in self._of.values() if not m.uses]
            gone: set[int] = set()
            for other in idle:
                gone.add(id(other))
                start = self._gap(size, [m for m in self._placed if id(m) not in gone])
                if start is not None:
                    break
        if start is None:
            raise refuse(errno.ENOSPC)
        for other in self._between(start, start + size):
            self._give_up(other)
        return self._put(bo, start)

    @staticmethod
    def _gap(size: int, placed: list[Mapping]) -> int | None:
        start = SPACE_START
        for mapping in placed:
            if mapping.start - start >= size:
                return start
            start = mapping.end
        return start if SPACE_END - start >= size else None
