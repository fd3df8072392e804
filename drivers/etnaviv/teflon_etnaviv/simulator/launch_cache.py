"""Decoded instructions that are kept for the next launch, and memory that is used again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

_KEPT_BYTES = 64 << 20
_KEPT_LAUNCHES = 4096


class Kept(Protocol):
    """A decoded instruction."""

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in memory."""


K = TypeVar("K", bound=Kept)


class LaunchCache(Generic[K]):
    """Checked and decoded instructions, by their bytes; the least recently used are dropped."""

    def __init__(self, room: int = _KEPT_BYTES) -> None:
        self.decoded = 0  # how many were put here in all
        self._room = room
        self._kept: OrderedDict[bytes, K] = OrderedDict()

    def get(self, raw: bytes) -> K | None:
        """Return the decoded form of an instruction."""
        found = self._kept.get(raw)
        if found is not None:
            self._kept.move_to_end(raw)
        return found

    def put(self, raw: bytes, launch: K) -> None:
        """Keep the decoded form of an instruction in place of an older one."""
        self.decoded += 1
        self.drop(raw)
        self._room -= launch.size_bytes
        self._kept[raw] = launch
        while self._room < 0 or len(self._kept) > _KEPT_LAUNCHES:
            self.drop(next(iter(self._kept)))

    def drop(self, raw: bytes) -> None:
        """Forget an instruction."""
        old = self._kept.pop(raw, None)
        if old is not None:
            self._room += old.size_bytes


class Scratch:
    """Memory for copies; the next call hands out the same bytes again."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def of(self, size: int) -> U8:
        """Return at least `size` bytes."""
        if len(self._memory) < size:
            self._memory = np.empty(size, np.uint8)
        return self._memory
