"""Values that break readers, and JSON with what no encoder writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

INTEGERS: tuple[int, ...] = tuple(
    sorted(
        {sign * (1 << bits) + near
         for bits in (0, 1, 2, 4, 6, 7, 8, 12, 15, 16, 20, 24, 30, 31, 32, 33, 40, 48, 62, 63, 64)
         for near in (-1, 0, 1) for sign in (1, -1)}
    )
)  # fmt: skip
"""Around the ends of what counts, sizes and addresses can be."""

EDGES: Sequence[Any] = (
    *INTEGERS, 10**400, -(10**400), 0.0, -0.0, 0.5, -1.5, 1e-45, 1e38, 1e300, -1e300, 1e19,
    "", "x", "0", "\0", "a\nb", "\ud800", "é" * 300, "tensor", "regcmd", "u8", "<f8", "|O", "V0",
    None, True, False, [], {}, [0], [[]], [1, 2, 3], {"a": 1}, [0] * 100, [1] * 70, [2] * 63,
)  # fmt: skip
"""Wrong types and extreme values for any field."""

RAW: Sequence[bytes] = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"9" * 5000, b'"\xff\xfe"',
    b'"\\ud800"', b"[" * 100_000, b"[" * 900 + b"]" * 900, b"[" * 500 + b"0" + b"]" * 500,
    b'{"a":' * 20_000, b'{"a":1,"a":2}', b'"' + b"n" * 100_000 + b'"', b"-0", b"1.0", b"1E5",
)  # fmt: skip
"""Texts of JSON, some of them malformed."""


class Raw:
    """A value whose text in JSON is given."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def __deepcopy__(self, memo: Any) -> Raw:
        return self


def dumps(plain: Any) -> bytes:
    """Return JSON in which `Raw` values have their own text."""
    kept: list[bytes] = []

    def placed(value: Any) -> str:
        if not isinstance(value, Raw):
            raise TypeError(type(value).__name__)
        kept.append(value.text)
        return f"@@{len(kept) - 1}@@"

    text = json.dumps(plain, separators=(",", ":"), default=placed).encode()
    for index, raw in enumerate(kept):
        text = text.replace(f'"@@{index}@@"'.encode(), raw)
    return text


def pick(random: np.random.Generator, choices: Sequence[T]) -> T:
    """Return a random one of the choices."""
    return choices[int(random.integers(len(choices)))]


def number(random: np.random.Generator, old: float) -> Any:
    """Return a number to try instead of an old one: near it, extreme, or random."""
    ways = int(random.integers(6))
    if ways == 0:
        return old + pick(random, [-1, 1])
    if ways == 1:
        return old + pick(random, [-64, -16, -8, -4, 4, 8, 16, 64])
    if ways == 2:
        return pick(random, [old * 2, -old, old * 16, old // 2 if old == old else 0])
    if ways == 3:
        return int(random.integers(0, 1 << int(random.integers(1, 63))))
    return pick(random, INTEGERS)
