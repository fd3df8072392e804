"""Read the options of custom operations: a FlexBuffer map of scalars, with every offset checked.

# Ref: FlatBuffers, docs/source/flexbuffers.md ("Binary encoding") and include/flatbuffers/
# flexbuffers.h (numbers of the types)
"""

from __future__ import annotations

import struct
from typing import Final

Scalar = int | float | bool

INT: Final = 1
UINT: Final = 2
FLOAT: Final = 3
INDIRECT_INT: Final = 6
INDIRECT_FLOAT: Final = 8
MAP: Final = 9
BOOL: Final = 26

_FLOATS = {2: "<e", 4: "<f", 8: "<d"}


def read_map(data: bytes) -> dict[str, Scalar]:
    """Return the scalars of a map by key; values of other types are left out.

    Raises ValueError where the bytes are not such a map.
    """
    if len(data) < 3:
        raise ValueError(f"has {len(data)} bytes, must have at least 3")
    width, packed = data[-1], data[-2]
    if width not in (1, 2, 4, 8):
        raise ValueError(f"root is {width} bytes wide, must be 1, 2, 4 or 8")
    if packed >> 2 != MAP:
        raise ValueError(f"root has type {packed >> 2}, must be a map ({MAP})")
    reader = _Reader(data)
    start = reader.follow(len(data) - 2 - width, width)
    return reader.map(start, 1 << (packed & 3))


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, position: int, width: int) -> bytes:
        if position < 0 or position + width > len(self.data):
            raise ValueError(
                f"{width} bytes at offset {position}, must lie within {len(self.data)} bytes"
            )
        return self.data[position : position + width]

    def unsigned(self, position: int, width: int) -> int:
        return int.from_bytes(self.take(position, width), "little")

    def follow(self, position: int, width: int) -> int:
        """Return where an offset points: backwards from its own place."""
        return position - self.unsigned(position, width)

    def key(self, position: int) -> str:
        end = self.data.find(b"\0", max(position, 0))
        if position < 0 or end < 0:
            raise ValueError(f"key at offset {position} has no end")
        return self.data[position:end].decode("utf-8", "backslashreplace")

    def map(self, start: int, width: int) -> dict[str, Scalar]:
        count = self.unsigned(start - width, width)
        keys_width = self.unsigned(start - 2 * width, width)
        if keys_width not in (1, 2, 4, 8):
            raise ValueError(f"keys are {keys_width} bytes wide, must be 1, 2, 4 or 8")
        keys = self.follow(start - 3 * width, width)
        types = self.take(start + count * width, count)
        found: dict[str, Scalar] = {}
        for number, packed in enumerate(types):
            key = self.key(self.follow(keys + number * keys_width, keys_width))
            value = self.scalar(start + number * width, width, packed)
            if value is not None:
                found[key] = value
        return found

    def scalar(self, position: int, width: int, packed: int) -> Scalar | None:
        kind = packed >> 2
        if INDIRECT_INT <= kind <= INDIRECT_FLOAT:
            position, width = self.follow(position, width), 1 << (packed & 3)
            kind -= INDIRECT_INT - INT
        raw = self.take(position, width)
        if kind == FLOAT:
            if width not in _FLOATS:
                raise ValueError(f"float of {width} byte at offset {position}, must be 2, 4 or 8")
            return float(struct.unpack(_FLOATS[width], raw)[0])
        if kind in (INT, UINT):
            return int.from_bytes(raw, "little", signed=kind == INT)
        return any(raw) if kind == BOOL else None
