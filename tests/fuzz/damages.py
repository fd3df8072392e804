"""What is damaged in the programs of each driver: rows, commands, instructions, texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from teflon_common.registers import Register
from teflon_etnaviv.descriptors import NNInstruction, TPInstruction
from teflon_rocket.registers import REGISTERS, WRITE
from tests.fuzz.container import Container, Damage, change_bytes, change_rows
from tests.fuzz.runner import Random
from tests.fuzz.values import INTEGERS, number, pick


def _command(register: type[Register]) -> Damage:
    """Return what changes a command of a register list that writes a register."""
    key = (register.block.target + WRITE) << 48 | register.offset

    def damage(random: Random, it: Container) -> bool:
        words = it.section(pick(random, it.buffers("regcmd")), "<u8")
        places = np.nonzero((words & np.uint64(0xFFFF_0000_0000_FFFF)) == np.uint64(key))[0]
        if not len(places):
            return False
        at = int(pick(random, places.tolist()))
        value = _value(random, int(words[at]) >> 16 & 0xFFFFFFFF, register)
        words[at] = key | value << 16
        return True

    return damage


def _value(random: Random, value: int, register: type[Register]) -> int:
    """Return another value of a register: of one field, of one bit, or of all."""
    way = random.random()
    if way < 0.5 and register.fields:
        field = pick(random, register.fields)
        return value & ~field.mask | _bits(random, field.width) << field.lo
    if way < 0.7:
        return value ^ 1 << int(random.integers(32))
    return int(number(random, value)) & 0xFFFFFFFF


def _word(random: Random, it: Container) -> bool:
    """Change any word of a register list: its target, its register, or all of it."""
    words = it.section(pick(random, it.buffers("regcmd")), "<u8")
    at, other = random.integers(len(words), size=2)
    old = int(words[at])
    words[at] = pick(random, [old ^ 1 << int(random.integers(64)), int(words[other]), 0,
                              int(random.integers(1 << 63))])  # fmt: skip
    return True


def _bits(random: Random, width: int) -> int:
    return pick(random, [0, 1, (1 << width) - 1, int(random.integers(1 << width))]) & (
        (1 << width) - 1
    )


ROCKET: Mapping[str, Damage] = {
    **change_rows("relocs", ("buffer", "offset", "target", "addend")),
    **change_rows("tasks", ("buffer", "offset", "count")),
    **{
        f"regcmd {register.title()}": _command(register)
        for register in REGISTERS
        if register.block.target + WRITE < 1 << 16
    },
    "regcmd": _word,
    **change_bytes(lambda it: [n for n in it.header["sections"] if "buffer" in n], "content"),
}


def _instruction(kind: type[NNInstruction | TPInstruction], role: str, name: str) -> Damage:
    """Return what changes a field of an instruction."""
    (field,) = (f for f in kind.fields if f.name == name)

    def damage(random: Random, it: Container) -> bool:
        names = it.buffers(role)
        if not names:
            return False
        words = it.section(pick(random, names), "<u4")
        starts = range(0, max(len(words) - kind.words + 1, 1), 16)
        at = pick(random, starts) + field.word
        word = int(words[at])
        bits = pick(random, [_bits(random, field.width), word >> field.lo ^ 1])
        words[at] = (word & ~field.mask | bits << field.lo) & 0xFFFFFFFF
        return True

    return damage


def _stream(random: Random, it: Container) -> bool:
    words = it.section("stream", "<u4")
    if not len(words):
        return False
    at = int(random.integers(len(words)))
    old = int(words[at])
    new = old ^ 1 << int(random.integers(32)) if random.random() < 0.5 else number(random, old)
    words[at] = new & 0xFFFFFFFF
    return True


ETNAVIV: Mapping[str, Damage] = {
    **change_rows("relocs", ("buffer", "offset", "kind", "target", "addend")),
    **{f"stream {n}": _stream for n in range(4)},
    **{f"nn.{f.name}": _instruction(NNInstruction, "nn_config", f.name)
       for f in NNInstruction.fields},
    **{f"tp.{f.name}": _instruction(TPInstruction, "tp_config", f.name)
       for f in TPInstruction.fields},
    **change_bytes(lambda it: [n for n in it.header["sections"] if "buffer" in n], "content"),
}  # fmt: skip


def _graph_text(random: Random, it: Container) -> bool:
    """Change a word, a number or a line of a graph's text."""
    at, dtype, shape = it.header["sections"]["text"]
    text = bytes(it.body[at : at + shape[0]])
    lines = text.split(b"\n")
    row = int(random.integers(len(lines)))
    way = random.random()
    if way < 0.1:
        lines[row : row + 1] = pick(random, [[], [lines[row]] * 2, lines[row : row + 1] * 50])
    elif way < 0.9:
        words = lines[row].split(b" ")
        word = int(random.integers(len(words)))
        words[word] = _changed(random, words[word])
        lines[row] = b" ".join(words)
    else:
        lines[row] = lines[row][: int(random.integers(len(lines[row]) + 1))]
    new = b"\n".join(lines)
    it.body[at : at + shape[0]] = new
    table = {**it.header["sections"], "text": [at, dtype, [len(new)]]}
    it.header = {**it.header, "sections": table}
    return True


def _changed(random: Random, word: bytes) -> bytes:
    digits = [n for n, byte in enumerate(word) if byte in b"0123456789"]
    if digits and random.random() < 0.8:
        at = pick(random, digits)
        return word[:at] + str(pick(random, INTEGERS)).encode() + word[at + 1 :]
    return pick(random, [b"nan", b"inf", b"1e999", b"u8", b"f32[1,2]", b"\xff", b"(", b"", b"%0"])


CPU: Mapping[str, Damage] = {f"text {n}": _graph_text for n in range(8)}
