"""Command lists as text, a line for each 64-bit command; every value has a text."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from teflon_common.registers import Register
from teflon_rocket.registers import (
    ENABLE_TARGET,
    GLOBAL,
    PREPARE_WORD,
    REGISTERS,
    WRITE,
    split_command,
)


class Command(NamedTuple):
    """One decoded command: `register` is None when no declared register is written."""

    word: int
    register: Register | None


def decode(data: bytes | bytearray | memoryview, count: int | None = None) -> Iterator[Command]:
    """Yield the commands of a list; `count` in 64-bit words, default all whole words of `data`."""
    words = np.frombuffer(data, "<u8", len(data) // 8 if count is None else count)
    for word in words.tolist():
        target, offset, value = split_command(word)
        found = REGISTERS.find(target - WRITE, offset)
        yield Command(word, None if found is None else found.unpack(value))


def show(command: Command) -> str:
    """Return a command as ``CNA.CONV_CON3 CONV_X_STRIDE=1``, or numbers for an unknown register."""
    if command.register is not None:
        return str(command.register)
    if command.word == 0:
        return "-"
    if command.word == PREPARE_WORD:
        return "prepare"
    target, offset, value = split_command(command.word)
    if target == ENABLE_TARGET and offset == 0x0008:
        started = GLOBAL.OPERATION_ENABLE.unpack(value)
        names = [name.removesuffix("_OP_EN") for name in started.changed()]
        rest = [f"rest=#{started.rest:08x}"] if started.rest else []
        return " ".join(["enable", *names, *rest])
    return f"unknown target=#{target:04x} offset=#{offset:04x} value=#{value:08x}"


def text(data: bytes | bytearray | memoryview, count: int | None = None) -> str:
    """Return the whole list, a line for each command."""
    return "\n".join(show(command) for command in decode(data, count))
