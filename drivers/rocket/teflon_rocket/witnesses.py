# Ref: docs/hardware/rocket.md §1.2 (command words), docs/hardware/rocket_vendor.md §0
"""Which register values a board has seen: those of Mesa's recordings and of the vendor's lists.

A board has run programs of both, never ours. The table `witnesses.txt` has a line for each register
that their lists write, and `unwitnessed` names what a program writes beyond it. A `Fact` is a class
of values: of a field of four bits or less the value itself, of a wider one only zero or not,
because such fields hold sizes, factors and strides. Facts of one set of units say nothing about
another set. Addresses are no facts.

`tools/make_witnesses.py` makes the table.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from teflon_rocket.addresses import ROLES
from teflon_rocket.program import RocketProgram, Task
from teflon_rocket.registers import ENABLE_TARGET, PREPARE_WORD, REGISTERS, WRITE, split_command

TABLE = Path(__file__).with_suffix(".txt")
NARROW = 4
"""Bits of the widest field whose values count one by one."""
SOME = "*"
"""Any value but 0 of a wide field."""
SPARE = "undocumented"
"""Stands for a field: the bits that no field of the register has."""
WHOLE, UNWRITTEN = "register", "unwritten"
"""Stand for field and value where a list lacks a register that all lists for these units write."""


@dataclass(frozen=True, order=True)
class Fact:
    """A class of values of one field, with the mask of the units that its command list starts.

    value: what is stored, in decimal, or `*` for whatever a wide field holds that is not 0.
    """

    units: int
    register: str
    field: str
    value: str

    def __str__(self) -> str:
        return f"0x{self.units:x} {self.register}.{self.field}={self.value}"


@dataclass(frozen=True)
class Unwitnessed:
    """A fact without a witness, and the operations whose command lists have it, each once."""

    fact: Fact
    operations: tuple[str, ...]


def facts(words: Iterable[int]) -> frozenset[Fact]:
    """Return the facts of one command list; of none without a word that starts units."""
    parts: set[tuple[str, str, str]] = set()
    for word in words:
        target, offset, value = split_command(word)
        if target == ENABLE_TARGET:
            return frozenset(Fact(value, *part) for part in parts)
        if word not in (0, PREPARE_WORD) and (target, offset) not in ROLES:
            parts.update(_of_word(target, offset, value))
    return frozenset()


@functools.lru_cache(maxsize=1 << 14)
def _of_word(target: int, offset: int, value: int) -> tuple[tuple[str, str, str], ...]:
    register = REGISTERS.find(target - WRITE, offset)
    if register is None:
        return ((f"0x{target:04x}", f"0x{offset:04x}", _class(value, NARROW + 1)),)
    title = register.title()
    spare = value & ~sum(field.mask for field in register.fields)
    found = [(title, f.name, _class((value & f.mask) >> f.lo, f.width)) for f in register.fields]
    return tuple(found) if not spare else (*found, (title, SPARE, f"{spare}"))


def _class(stored: int, width: int) -> str:
    return str(stored) if width <= NARROW or stored == 0 else SOME


def text(known: Mapping[Fact, str]) -> str:
    """Return a table of facts; `known` has for each the letters of those who witness it.

    One line for each set of units and register: ``1d CNA.CONV_CON3 CONV_X_STRIDE:1mv,2v``. A field
    that is 0 in all its lists is left out.
    """
    lines: dict[tuple[int, str], dict[str, list[str]]] = {}
    for fact in sorted(known):
        fields = lines.setdefault((fact.units, fact.register), {})
        fields.setdefault(fact.field, []).append(f"{fact.value}{known[fact]}")
    return "".join(
        " ".join((f"{units:02x}", register, *_written(fields))) + "\n"
        for (units, register), fields in lines.items()
    )


def _written(fields: Mapping[str, list[str]]) -> list[str]:
    return [
        f"{name}:{','.join(values)}"
        for name, values in fields.items()
        if [value.rstrip("mv") for value in values] != ["0"]
    ]


def parsed(content: str) -> frozenset[Fact]:
    """Return the facts of a table; `text` writes one."""
    found: set[Fact] = set()
    by_title = {register.title(): register for register in REGISTERS}
    for line in content.splitlines():
        if line.startswith("#"):
            continue
        units, register, *fields = line.split(" ")
        mask = int(units, 16)
        given = dict(field.split(":") for field in fields)
        for name, values in given.items():
            found |= {Fact(mask, register, name, v.rstrip("mv")) for v in values.split(",")}
        if register in by_title:
            silent = (f.name for f in by_title[register].fields if f.name not in given)
            found |= {Fact(mask, register, name, "0") for name in silent}
    return frozenset(found)


@functools.cache
def table() -> frozenset[Fact]:
    """Return the facts that have a witness. The file is read when this is first called."""
    return parsed(TABLE.read_text())


def unwritten(own: frozenset[Fact]) -> frozenset[Fact]:
    """Return which registers a list with these facts lacks: one that short lists leave as they
    were, and full lists of others always write.
    """
    masks = {fact.units for fact in own}
    lacking = {key for key in _registers(table()) if key[0] in masks} - _registers(own)
    return frozenset(Fact(*key, WHOLE, UNWRITTEN) for key in lacking)


@functools.lru_cache(maxsize=1 << 10)
def _registers(of: frozenset[Fact]) -> frozenset[tuple[int, str]]:
    return frozenset((fact.units, fact.register) for fact in of)


def unwitnessed(program: RocketProgram) -> tuple[Unwitnessed, ...]:
    """Return what no recording and no vendor list has, of all command lists of a program."""
    known, found = table(), dict[Fact, dict[str, None]]()
    for job in program.jobs:
        names = job.task_names
        for number, task in enumerate(job.tasks):
            name = names[number] if number < len(names) else job.name
            own = facts(_words(program, task))
            for fact in (own - known) | unwritten(own):
                found.setdefault(fact, {})[name] = None
    return tuple(Unwitnessed(fact, tuple(found[fact])) for fact in sorted(found))


def _words(program: RocketProgram, task: Task) -> list[int]:
    data = program.buffers[task.buffer].data or b""
    words: list[int] = np.frombuffer(data, "<u8", task.count, task.offset).tolist()
    return words
