"""Inputs that every driver must refuse: programs of other drivers, unknown operations."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon.ir.types import DType, TensorType
from teflon.pipe import Program
from teflon_common import program as container


def with_other_chip(data: bytes, driver: str, chip: str) -> bytes:
    """Return a valid program of the common format with the name of another chip."""
    (length,) = struct.unpack_from("<I", data, len(container.MAGIC) + 4)
    start = data.index(b"{")
    version = json.loads(data[start : start + length])["version"]
    header, arrays = container.unpack(data, driver, version)
    header.pop("sections")
    return container.pack({**header, "chip": chip}, arrays)


class ForeignProgram(Program):
    """A program of a driver that does not exist."""

    driver = "unknown"
    chip = "unknown-chip"
    inputs: Sequence[TensorType] = ()
    outputs: Sequence[TensorType] = ()

    @property
    def statistics(self) -> Mapping[str, int]:
        return {}

    def to_bytes(self) -> bytes:
        return b""


def unknown_operation() -> Graph:
    """Return a model with one unknown operation."""
    b = Builder("unknown")
    x = b.input("x", "u8", (1, 4, 4, 8), 0.5, 3)
    b.output(*b.opaque("FROBNICATE", [x], [TensorType(DType.UINT8, (1, 4, 4, 8))]))
    return b.build()
