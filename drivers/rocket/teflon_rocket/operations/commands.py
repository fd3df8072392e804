# Ref: docs/hardware/rocket.md §1.2 (command words)
"""The register writes of one task, in order, and which of them hold device addresses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from teflon_common.registers import Register
from teflon_rocket.operations.data import Constant, Feature
from teflon_rocket.registers import command

_KEPT = 8192  # packed commands that are remembered: layers repeat

Pack = Callable[..., int]
"""Makes a 64-bit command of a register's class and its fields by name."""

Target = Feature | Constant | None
"""What an address points to; None: the command lists of the operation itself."""


@functools.lru_cache(_KEPT)
def strict(register: type[Register], **values: int) -> int:
    """Return the command; raises FieldOverflow where a value does not fit its field."""
    return command(register(**values))


class Address(NamedTuple):
    """A word that holds a device address: what it points to, and what is added to that address.

    `word` counts from the beginning of the task's list.
    """

    word: int
    target: Target
    addend: int


class Commands:
    """The commands of one task while they are written; `pack` makes each word."""

    def __init__(self, pack: Pack) -> None:
        self.words: list[int] = []
        self.addresses: list[Address] = []
        self._pack = pack

    def write(self, register: type[Register], **values: int) -> None:
        """Write a register; fields that are not named get their default."""
        self.words.append(self._pack(register, **values))

    def clear(self, *registers: type[Register]) -> None:
        """Write 0 to registers, one after the other."""
        self.words += _zeros(registers)

    def point(self, register: type[Register], target: Target, addend: int = 0) -> None:
        """Write the address of something, which is filled in when the buffers have theirs."""
        self.addresses.append(Address(len(self.words), target, addend))
        self.words += _zeros((register,))


@functools.cache
def _zeros(registers: tuple[type[Register], ...]) -> tuple[int, ...]:
    return tuple(command(register.unpack(0)) for register in registers)


def numbered(block: Any, name: str, numbers: Iterable[int]) -> tuple[type[Register], ...]:
    """Return the registers of a block whose names are `name` and a number."""
    return tuple(getattr(block, f"{name}{n}") for n in numbers)
