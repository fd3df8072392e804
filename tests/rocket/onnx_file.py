"""Reads the constants of an .onnx file: a protocol buffer, of which only tensors are looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
GRAPH, INITIALIZER = 7, 5
"""Fields of a model and of a graph."""
DIMS, TYPE, NAME, RAW, FLOAT = 1, 2, 8, 9, 1
"""Fields of a tensor; the type of float32."""


def floats(path: Path) -> dict[str, Floats]:
    """Name -> constant, of all constants of float32."""
    (graph,) = (value for field, value in _fields(path.read_bytes()) if field == GRAPH)
    assert isinstance(graph, bytes)
    found = {}
    for field, value in _fields(graph):
        if field == INITIALIZER and isinstance(value, bytes):
            parts = list(_fields(value))
            if (TYPE, FLOAT) in parts:
                name, array = _tensor(parts)
                found[name] = array
    return found


def _tensor(parts: list[tuple[int, int | bytes]]) -> tuple[str, Floats]:
    dims = [value for field, value in parts if field == DIMS]
    texts = {field: value for field, value in parts if isinstance(value, bytes)}
    shape = [d for d in dims if isinstance(d, int)]
    return texts[NAME].decode(), np.frombuffer(texts[RAW], "<f4").reshape(shape)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (number of the field, value): a number, or the bytes of what is longer."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _number(data, at)
            yield key >> 3, number
            continue
        size, at = _number(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
        yield key >> 3, data[at : at + size]
        at += size


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
