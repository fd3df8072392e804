"""Damage programs for several cores: their JSON, and the programs in them."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence

from tests.fuzz.container import change_json, mutate
from tests.fuzz.damages import ROCKET
from tests.fuzz.runner import Mutant, Random
from tests.fuzz.values import dumps, number, pick

_HEAD = struct.Struct("<8sIII")


def mutate_stages(random: Random, corpus: Sequence[bytes]) -> Mutant:
    """Return a damaged program in stages, behind right checksums."""
    data = pick(random, corpus)
    magic, form, length, _ = _HEAD.unpack_from(data)
    plain = json.loads(data[_HEAD.size : _HEAD.size + length])
    rest = data[_HEAD.size + length :]
    blobs, at = [], 0
    for size in plain["sizes"]:
        blobs.append(rest[at : at + size])
        at += size
    way = random.random()
    if way < 0.25:
        place = int(random.integers(len(blobs)))
        field, blobs[place] = mutate(random, [blobs[place]], ROCKET)
        plain["sizes"] = [len(blob) for blob in blobs]
        field = f"program.{field.partition('.')[0]}"
    elif way < 0.27:
        field, form = "head.format", number(random, form) & 0xFFFFFFFF
    elif way < 0.29:
        field, blobs = "blobs", blobs[: int(random.integers(len(blobs)))]
    else:
        field = change_json(random, plain)
    text = dumps(plain)
    head = _HEAD.pack(magic, form, len(text), zlib.crc32(text))
    return Mutant(field, head + text + b"".join(blobs))
