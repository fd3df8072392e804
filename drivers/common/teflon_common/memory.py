"""The memory that a simulated device sees: buffers at device addresses, with checked accesses."""

import bisect
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from teflon.errors import SimulatorFault

Buffer = bytearray | memoryview | NDArray[np.uint8]
"""Writable bytes."""


@dataclass(frozen=True)
class Mapping:
    """A buffer object at its device address."""

    address: int
    data: NDArray[np.uint8]
    name: str
    end: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "end", self.address + len(self.data))

    def __str__(self) -> str:
        return f"{self.name} (#{self.address:08x}..#{self.end:08x})"


_start = operator.attrgetter("address")


class DeviceMemory:
    """The buffer objects in one device address space.

    A thread may map and unmap while another one reads, because the table is replaced and never
    changed. Overlapping mappings and accesses outside of one buffer raise SimulatorFault.
    """

    def __init__(self) -> None:
        self._mappings: tuple[Mapping, ...] = ()  # by address

    def __iter__(self) -> Iterator[Mapping]:
        return iter(self._mappings)

    def map(self, address: int, buffer: Buffer, name: str) -> None:
        """Map the buffer's bytes, without copying them, at a device address."""
        data = np.frombuffer(buffer, np.uint8) if not isinstance(buffer, np.ndarray) else buffer
        new = Mapping(address, data, name)
        at = bisect.bisect_left(self._mappings, address, key=_start)
        for other in self._mappings[max(at - 1, 0) : at + 1]:
            if other.address < new.end and new.address < other.end:
                raise SimulatorFault(f"memory: {new} overlaps {other}")
        self._mappings = (*self._mappings[:at], new, *self._mappings[at:])

    def unmap(self, address: int) -> None:
        """Remove the buffer that starts at this address."""
        at = bisect.bisect_left(self._mappings, address, key=_start)
        if at == len(self._mappings) or self._mappings[at].address != address:
            raise SimulatorFault(f"memory: no buffer starts at #{address:08x}, cannot unmap it")
        self._mappings = (*self._mappings[:at], *self._mappings[at + 1 :])

    def find(self, address: int) -> Mapping | None:
        """Return the buffer that contains this address; None if there is none."""
        mappings = self._mappings
        at = bisect.bisect_right(mappings, address, key=_start) - 1
        if at < 0 or address >= mappings[at].end:
            return None
        return mappings[at]

    def view(self, address: int, size: int, what: str) -> NDArray[np.uint8]:
        """Return the `size` bytes at an address; they are writable if the buffer is.

        Raises SimulatorFault, with `what` in the text, if they do not lie in one buffer.
        """
        mapping = self.find(address)
        if mapping is None:
            raise SimulatorFault(
                f"{what}: #{address:08x} is in no buffer, must be in one (nearest:"
                f" {self._nearest(address)})"
            )
        start = address - mapping.address
        if start + size > len(mapping.data):
            raise SimulatorFault(
                f"{what}: {size} bytes at #{address:08x} end at #{address + size:08x}, must stay"
                f" within {mapping}"
            )
        return mapping.data[start : start + size]

    def strided(
        self,
        address: int,
        shape: Sequence[int],
        strides_bytes: Sequence[int],
        dtype: DTypeLike,
        what: str,
    ) -> NDArray[Any]:
        """Return an array of the buffer's bytes with these strides, which may be negative.

        Raises SimulatorFault if an element lies outside of the buffer.
        """
        kind, low, high = np.dtype(dtype), 0, 0
        if 0 in shape:
            return np.empty(tuple(shape), kind)
        for count, step in zip(shape, strides_bytes, strict=True):
            if step < 0:
                low += (count - 1) * step
            else:
                high += (count - 1) * step
        data = self.view(address + low, high + kind.itemsize - low, what)
        return np.ndarray(tuple(shape), kind, data, -low, tuple(strides_bytes))

    def _nearest(self, address: int) -> str:
        if not self._mappings:
            return "no buffer is mapped"
        return str(
            min(self._mappings, key=lambda m: min(abs(m.address - address), abs(m.end - address)))
        )
