"""What the `meta` and the arrays of a recording must be: declared once, checked by `read`.

What later code relies on is required; further keys are for people and may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from teflon.ir.schema import Column, Each, Field, Flag, Number, Real, Scope, Text, shown
from teflon.ir.types import MOST_AXES, MOST_SIZE, Array

WORD = Number(0, (1 << 32) - 1)
ADDRESS = Number(0, (1 << 64) - 1)
SIZE = Number(0, 1 << 30)
"""Bytes of a buffer."""
MOST_MEMORY = 1 << 30
"""Bytes that all buffers of a recording may have together."""
_SIGNED = Number(-(1 << 63), (1 << 63) - 1)


@dataclass(frozen=True)
class Maybe(Field):
    """None, or what a field must be."""

    of: Field

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        there = [value for value in column if value is not None]
        return bool(there) and self.of.wrong(there, scope, columns)

    def must(self, scope: Scope) -> str:
        return f"{self.of.must(scope)}, or null"


@dataclass(frozen=True)
class Row(Field):
    """A list with one value of each kind."""

    parts: tuple[Field, ...]

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        if not all(type(row) is list and len(row) == len(self.parts) for row in column):
            return True
        parts = zip(*column, strict=True)
        return any(f.wrong(part, scope, {}) for f, part in zip(self.parts, parts, strict=True))

    def must(self, scope: Scope) -> str:
        return f"[{'; '.join(part.must(scope) for part in self.parts)}]"


@dataclass(frozen=True)
class Named(Field):
    """An object with the keys of `needs`, perhaps those of `may`, and any others."""

    needs: Mapping[str, Field]
    may: Mapping[str, Field] = field(default_factory=dict)

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        return any(problem(row, self) for row in column)

    def must(self, scope: Scope) -> str:
        return f"an object with {', '.join(self.needs) or 'any keys'}"


@dataclass(frozen=True)
class Mapped(Field):
    """An object whose values are all alike."""

    of: Field

    def wrong(self, column: Column, scope: Scope, columns: Mapping[str, Column]) -> bool:
        return any(problem(row, self) for row in column)

    def must(self, scope: Scope) -> str:
        return f"an object, each {self.of.must(scope)}"


def problem(plain: Any, rule: Field, where: str = "") -> str:
    """Return what is wrong with JSON: place, value, what it must be; "" if nothing is."""
    if isinstance(rule, Named | Mapped) and type(plain) is dict:
        if isinstance(rule, Mapped):
            rules = dict.fromkeys(plain, rule.of)
        else:
            if missing := [key for key in rule.needs if key not in plain]:
                return f"{where or 'meta'} has no {', '.join(missing)}, must have them"
            rules = {**rule.needs, **{k: f for k, f in rule.may.items() if k in plain}}
        found = (problem(plain[k], f, f"{where}.{k:.40}" if where else k) for k, f in rules.items())
        return next(filter(None, found), "")
    if isinstance(rule, Each) and type(plain) is list:
        rows = (problem(row, rule.of, f"{where}[{n}]") for n, row in enumerate(plain))
        return next(filter(None, rows), "")
    if isinstance(rule, Named | Mapped | Each) or rule.wrong([plain], {}, {}):
        return f"{where or 'meta'} is {shown(plain)}, must be {rule.must({})}"
    return ""


HANDLES = Each(WORD)
TENSOR = Named(
    {
        "index": Number(-1, MOST_SIZE), "name": Text(),
        "dtype": Text(("|u1", "|i1", "<i2", "<i4", "<f4", "|b1", "<i8", "<u2", "<u4", "<u8", "<f2",
                       "<f8", "<c8", "uint8", "int8", "int16", "int32", "float32", "bool",
                       "int64")),
        "shape": Each(Number(0, MOST_SIZE)),
        "scales": Each(Real(0, float(np.finfo(np.float32).max))),
        "zero_points": Each(_SIGNED),
    },
)  # fmt: skip
_TENSORS = Each(Number(-1, MOST_SIZE))
OPERATION = Named({"op": Text(), "inputs": _TENSORS, "outputs": _TENSORS})
JOB = Named({"in": HANDLES, "out": HANDLES}, {"tasks": Each(Row((WORD, WORD)))})

ENTRIES: Mapping[str, Named] = {
    "CREATE_BO": Named({"handle": WORD, "size": SIZE, "dma_address": ADDRESS}),
    "GEM_NEW": Named({"handle": WORD, "size": SIZE}),
    "GEM_CLOSE": Named({"handle": WORD}),
    "GET_PARAM": Named({"pipe": WORD, "param": WORD, "value": ADDRESS}),
    "SUBMIT": Named({"submit": WORD, "jobs": Each(JOB)}),
    "GEM_SUBMIT": Named({"submit": WORD, "bos": Each(Row((WORD, WORD, ADDRESS)))}),
}
"""Request -> what its line of the log must have; all others may have anything."""

META = Named(
    {
        "driver": Text(),
        "log": Each(Named({"ioctl": Text()}, {"errno": _SIGNED})),
        "bos": Each(
            Named({"handle": WORD, "size": SIZE, "roles": Each(Text())}, {"addr": Maybe(ADDRESS)})
        ),
        "relocs": Each(Row((Text(), SIZE, Text(), WORD, ADDRESS))),
    },
    {
        "model": Text(), "device": Text(), "mesa": Text(), "recorder": Text(),
        "input_seed": Maybe(ADDRESS),
        "inputs": Each(TENSOR), "outputs": Each(TENSOR),
        "ops": Each(Named({})),
        "teflon_nodes": Each(Named({"supported": Flag()})),
        "teflon_partitions": Each(Each(Named({}))),
        "unstable": Mapped(Each(SIZE)),
        "status": Named({"ok": Flag()}),
        "options": Mapped(Text()),
        "ports": Each(
            Named({"handle": WORD, "name": Text(), "kind": Text(("input", "output")),
                   "port": Named({})})
        ),
    },
)  # fmt: skip

_BYTES = re.compile(r"(bo|after)_\d{1,10}_\d{1,10}|stream_\d{1,10}|text")


def meta_problem(meta: Any) -> str:
    """Return what is wrong with a recording's `meta`; "" if nothing is."""
    if found := problem(meta, META):
        return found
    for number, entry in enumerate(meta["log"]):
        rule = ENTRIES.get(entry["ioctl"])
        if rule and (found := problem(entry, rule, f"log[{number}]")):
            return found
    if not meta.get("ports"):  # only then tensors are looked for in the operations
        partitions = meta.get("teflon_partitions", [])
        if found := problem(partitions, Each(Each(OPERATION)), "teflon_partitions"):
            return found
    made = [e["size"] for e in meta["log"] if e["ioctl"] in ("CREATE_BO", "GEM_NEW")]
    if sum(made) > MOST_MEMORY:
        return f"log: its buffers have {sum(made)} bytes, must have at most {MOST_MEMORY}"
    tensors = [t for key in ("inputs", "outputs") for t in meta.get(key, ())]
    return next(filter(None, map(_tensor_problem, tensors)), "")


def _tensor_problem(tensor: Mapping[str, Any]) -> str:
    name, counts = shown(tensor["name"]), (len(tensor["scales"]), len(tensor["zero_points"]))
    if counts[0] != counts[1]:
        return f"tensor {name} has {counts[0]} scales and {counts[1]} zero points"
    size = int(np.prod([float(n) for n in tensor["shape"]]))
    if len(tensor["shape"]) > MOST_AXES or size > MOST_MEMORY:
        return f"tensor {name} has the shape {shown(tensor['shape'])}, must have fewer elements"
    return ""


def array_problem(arrays: Mapping[str, Array]) -> str:
    """Return what is wrong with a recording's arrays; "" if nothing is."""
    for name, array in arrays.items():
        if _BYTES.fullmatch(name) and (array.dtype != np.uint8 or array.ndim != 1):
            return f"{name} is {array.dtype}{list(array.shape)}, must be bytes"
    return ""
