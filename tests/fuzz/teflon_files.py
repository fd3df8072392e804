"""Mutants of compiled models (.teflon), behind right checksums; those that load are run.

python -m tests.fuzz.teflon_files --count 10000 --seed 1 [--state FILE]
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

import teflon
from teflon.compile.cache import NONE
from teflon.compile.planning import compile_graph
from teflon.compile.source import read_graph
from teflon.compile.teflon_file import _ALIGN, _HEAD, pack, parse
from teflon.devices import open_device
from teflon.errors import TeflonError
from tests.fuzz.container import change_json, mutate
from tests.fuzz.corpus import graphs
from tests.fuzz.damages import ETNAVIV, ROCKET
from tests.fuzz.runner import Kind, Mutant, Random, main
from tests.fuzz.values import dumps, number, pick

CHIPS = {"rocket": "sim:rk3588", "etnaviv": "sim:a311d", "cpu": "cpu"}
"""Driver -> the spec that its files are run with."""
_EACH = 12


def seeds() -> list[bytes]:
    """Return compiled models of some operations for two chips and the CPU."""
    some = list(graphs())[:_EACH]
    found = []
    for spec in CHIPS.values():
        device, _ = open_device(spec)
        for number_, graph in enumerate(some):
            with suppress(TeflonError):
                found.append(pack(compile_graph(graph, device, NONE), whole=number_ % 2 == 0))
    return found


def change(random: Random, data: bytes) -> Mutant:
    """Return a file with a damaged description, program, constant, table or head."""
    head = list(_HEAD.unpack_from(data))
    text = data[_HEAD.size : _HEAD.size + head[2]]
    plain, way = json.loads(text), random.random()
    body = _HEAD.size + head[2] + -(_HEAD.size + head[2]) % _ALIGN
    sections = [data[body + at : body + at + size] for at, size, _ in plain["sections"]]
    table = plain.pop("sections")
    if way < 0.7:
        field = change_json(random, plain)
    elif way < 0.8 and (programs := [n for n in plain["programs"] if isinstance(n, int)]):
        place = pick(random, programs)
        own = ROCKET if plain["driver"] == "rocket" else ETNAVIV
        with suppress(Exception):  # a program of another driver has no such parts
            _, sections[place] = mutate(random, [sections[place]], own)
        field = "program"
    elif way < 0.9 and sections:
        place = int(random.integers(len(sections)))
        sections[place] = sections[place][: int(random.integers(len(sections[place]) + 1))]
        field = "section"
    else:
        return _of_table(random, head, {**plain, "sections": table}, data[body:])
    return Mutant(field, _packed(head, plain, sections))


def _packed(head: list[Any], plain: Any, sections: Sequence[bytes]) -> bytes:
    table, at = [], 0
    for data in sections:
        table.append([at, len(data), zlib.crc32(data)])
        at += len(data) + -len(data) % _ALIGN
    padded = b"".join(data + bytes(-len(data) % _ALIGN) for data in sections)
    return _file(head, {**plain, "sections": table} if isinstance(plain, dict) else plain, padded)


def _file(head: list[Any], plain: Any, body: bytes) -> bytes:
    text = dumps(plain)
    gap = bytes(-(_HEAD.size + len(text)) % _ALIGN)
    head = [*head[:2], len(text), zlib.crc32(text), head[4]]
    return _HEAD.pack(*head, _HEAD.size + len(text) + len(gap) + len(body)) + text + gap + body


def _of_table(random: Random, head: list[Any], plain: Any, body: bytes) -> Mutant:
    if random.random() < 0.2:
        head[int(random.integers(1, 5))] = number(random, 1) & 0xFFFFFFFF
        return Mutant("head", _file(head, plain, body))
    field = change_json(random, plain["sections"]) if plain["sections"] else ""
    return Mutant(f"sections.{field}", _file(head, plain, body))


def choose(random: Random, corpus: Sequence[bytes]) -> Mutant:
    """Return a changed one of the corpus."""
    return change(random, pick(random, corpus))


def use(data: bytes, random: Random) -> str:
    """Open, describe and run a compiled model, with each device that it may be for."""
    with suppress(TeflonError):
        read_graph(data)
    with suppress(TeflonError):
        file = parse(data, "fuzz")
        file.plan()
        file.device()
    ends = []
    for spec in CHIPS.values():
        try:
            with teflon.load(data, spec, cache="off") as model:
                str(model.report())
                ends.append("loaded")
                if sum(i.dtype.itemsize * int(np.prod(i.shape)) for i in model.inputs) < 1 << 24:
                    model.run(*(np.zeros(i.shape, i.dtype) for i in model.inputs))
                    ends.append("ran")
        except TeflonError:
            continue
    return ends[-1] if ends else "refused"


KINDS = {"teflon_files": Kind("teflon_files", seeds, choose, use, seconds=60.0)}

if __name__ == "__main__":
    sys.exit(main(KINDS, __name__))
