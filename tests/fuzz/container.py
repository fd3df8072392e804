"""Damage compiled programs in the common container: every field of the header and the sections.

The checksum is computed anew, so that only what reads the content can refuse it.
"""

from __future__ import annotations

import copy
import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tests.fuzz.runner import Mutant, Random
from tests.fuzz.values import EDGES, RAW, Raw, dumps, number, pick

_HEAD = struct.Struct("<8sIII4x")
_ALIGN = 64
_TRIED = 30
"""Programs that are looked at for a field that few of them have."""

Damage = Callable[[Random, "Container"], bool]
"""Changes a container in place; returns whether it has what is to be changed."""


@dataclass
class Container:
    """A program in parts: JSON with the table of sections, and their bytes."""

    header: dict[str, Any]
    body: bytearray
    form: int
    magic: bytes
    text: bytes | None = None  # instead of the header's
    length: int | None = None  # instead of the text's

    @classmethod
    def of(cls, data: bytes) -> Container:
        """Return the parts of a good program."""
        magic, form, length, _ = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        start = length + -(_HEAD.size + length) % _ALIGN
        return cls(json.loads(rest[:length]), bytearray(rest[start:]), form, magic)

    def copy(self, deep: bool = True) -> Container:
        """Return a container that may be changed; only its bytes, if it is not deep."""
        header = copy.deepcopy(self.header) if deep else self.header
        return Container(header, bytearray(self.body), self.form, self.magic)

    def to_bytes(self) -> bytes:
        """Return the file with a right checksum."""
        text = dumps(self.header) if self.text is None else self.text
        length = len(text) if self.length is None else self.length
        rest = text + bytes(-(_HEAD.size + len(text)) % _ALIGN) + bytes(self.body)
        return _HEAD.pack(self.magic, self.form, length, zlib.crc32(rest)) + rest

    def section(self, name: str, dtype: str) -> np.ndarray[Any, Any]:
        """Return a section's elements, a view that can be written."""
        at, stored, shape = self.header["sections"][name]
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(stored).itemsize
        size -= size % np.dtype(dtype).itemsize
        return np.frombuffer(self.body, dtype, size // np.dtype(dtype).itemsize, at)

    def buffers(self, role: str) -> list[str]:
        """Return the sections of buffers with a role."""
        return [
            f"buffer {n}" for n, row in enumerate(self.header.get("buffers", ()))
            if row[0] == role and row[3]
        ]  # fmt: skip


@lru_cache(512)
def parsed(data: bytes) -> Container:
    """Return a good program's parts; callers must copy them."""
    return Container.of(data)


def nodes(plain: Any, label: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (field, the container that it is in, its key there) of every value in some JSON."""
    items: Any = ()
    if isinstance(plain, dict):
        items = plain.items()
    elif isinstance(plain, list):
        items = enumerate(plain)
    for key, value in items:
        name = f"{label}.{_step(plain, key)}" if label else str(key)
        yield name, plain, key
        yield from nodes(value, name)


def _step(inside: Any, key: Any) -> str:
    """Return how a field is called: alike elements of a list by *, those of a row by number."""
    if isinstance(inside, list):
        return "*" if len({type(item) for item in inside}) == 1 else str(key)
    return str(key).rstrip("0123456789")


def change_json(random: Random, plain: Any, name: str = "") -> str:
    """Change one value of some JSON in place, of a field or of any; return the field."""
    found: dict[str, list[tuple[Any, Any]]] = {}
    for field, inside, key in nodes(plain):
        found.setdefault(field, []).append((inside, key))
    name = name or pick(random, list(found))
    inside, key = pick(random, found[name])
    way = pick(random, _WAYS)
    way(random, inside, key, pick(random, found[name]))
    return name


def _edge(random: Random, inside: Any, key: Any, _other: Any) -> None:
    inside[key] = copy.deepcopy(pick(random, EDGES))


def _near(random: Random, inside: Any, key: Any, _other: Any) -> None:
    old = inside[key]
    if isinstance(old, bool) or not isinstance(old, int | float):
        inside[key] = copy.deepcopy(pick(random, EDGES))
    else:
        inside[key] = number(random, old)


def _swap(_random: Random, inside: Any, key: Any, other: tuple[Any, Any]) -> None:
    inside[key] = copy.deepcopy(other[0][other[1]])


def _delete(_random: Random, inside: Any, key: Any, _other: Any) -> None:
    del inside[key]


def _double(random: Random, inside: Any, key: Any, other: Any) -> None:
    if isinstance(inside, list):
        inside.insert(key, copy.deepcopy(inside[key]))
    else:
        _edge(random, inside, key, other)


def _wrap(_random: Random, inside: Any, key: Any, _other: Any) -> None:
    inside[key] = [inside[key]]


def _many(random: Random, inside: Any, key: Any, other: Any) -> None:
    """Repeat the elements of a list."""
    if isinstance(inside[key], list) and len(json.dumps(inside[key])) < 1 << 16:
        inside[key] = inside[key] * pick(random, [2, 3, 64])
    else:
        _near(random, inside, key, other)


def _raw(random: Random, inside: Any, key: Any, _other: Any) -> None:
    inside[key] = Raw(pick(random, RAW))


_WAYS = (_edge, _edge, _near, _near, _near, _swap, _delete, _double, _wrap, _many, _raw)


def change_rows(name: str, columns: Sequence[str]) -> Mapping[str, Damage]:
    """Return what changes each column of a section of int64 rows."""

    def change(column: int) -> Damage:
        def damage(random: Random, it: Container) -> bool:
            rows = it.section(name, "<i8").reshape(-1, len(columns))
            if not len(rows):
                return False
            row, other = random.integers(len(rows), size=2)
            old = int(rows[row, column])
            new = int(rows[other, column]) if random.random() < 0.2 else number(random, old)
            rows[row, column] = min(max(new, -(1 << 63)), (1 << 63) - 1)
            return True

        return damage

    return {f"{name}.{column}": change(n) for n, column in enumerate(columns)}


def change_bytes(name: Callable[[Container], list[str]], label: str) -> Mapping[str, Damage]:
    """Return what changes bytes or words of sections, whose names a function returns."""

    def damage(random: Random, it: Container) -> bool:
        names = name(it)
        raw = it.section(pick(random, names), "u1") if names else np.empty(0, np.uint8)
        if not len(raw):
            return False
        for _ in range(int(random.integers(1, 4))):
            raw[random.integers(len(raw))] = random.integers(256)
        return True

    return {label: damage}


def _form(random: Random, it: Container) -> bool:
    it.form = number(random, it.form) & 0xFFFFFFFF
    return True


def _magic(random: Random, it: Container) -> bool:
    it.magic = bytes(random.integers(0, 256, 8, np.uint8))
    return True


def _cut(random: Random, it: Container) -> bool:
    del it.body[int(random.integers(len(it.body) + 1)) :]
    return True


def _grow(random: Random, it: Container) -> bool:
    at = int(random.integers(len(it.body) + 1))
    it.body[at:at] = bytes(int(pick(random, [1, 8, 64, 4096])))
    return True


def _length(random: Random, it: Container) -> bool:
    it.length = number(random, len(dumps(it.header))) & 0xFFFFFFFF
    return True


def _text(random: Random, it: Container) -> bool:
    """Give the header's text other bytes."""
    text = bytearray(dumps(it.header))
    at = int(random.integers(len(text)))
    if random.random() < 0.5:
        text[at] = int(random.integers(256))
    else:
        text[at:at] = pick(random, [b"\xff", b"\x80", b"[", b"}", b",", b"\xed\xa0\x80", b"\0"])
    it.text = bytes(text)
    return True


_COMMON: Mapping[str, Damage] = {
    "head.magic": _magic, "head.format": _form, "head.length": _length, "head.text": _text,
    "body.end": _cut, "body.length": _grow,
}  # fmt: skip


@lru_cache(16)
def _fields(corpus: tuple[bytes, ...]) -> Mapping[str, list[bytes]]:
    """Return the fields of the headers of some programs, each with the programs that have it."""
    found: dict[str, list[bytes]] = {}
    for seed in corpus:
        for name in {name for name, _, _ in nodes(parsed(seed).header)}:
            found.setdefault(name, []).append(seed)
    return found


def mutate(random: Random, corpus: Sequence[bytes], own: Mapping[str, Damage]) -> Mutant:
    """Return a damaged program; `own` changes the sections of its driver.

    All fields are equally likely.
    """
    fields, others = _fields(tuple(corpus)), {**own, **_COMMON}
    while True:
        field = pick(random, [*fields, *others])
        for _ in range(_TRIED):
            it = parsed(pick(random, fields.get(field, corpus))).copy(field in fields)
            if field in fields:
                change_json(random, it.header, field)
            elif not others[field](random, it):
                continue  # this program has none
            if random.random() < 0.15:
                with suppress(Exception):  # what is damaged may have no such field any more
                    others[pick(random, list(others))](random, it)
            return Mutant(field, it.to_bytes())
