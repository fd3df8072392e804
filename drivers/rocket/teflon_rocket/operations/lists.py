# Ref: docs/hardware/rocket.md §1.2 (enable word), §1.5 (trailer: chaining of tasks)
"""The command lists of an operation: one for each task, in order, each with its trailer."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from teflon_common.registers import Block
from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import Address, Commands, Pack
from teflon_rocket.registers import GLOBAL, PC, PREPARE_WORD, command, enable_command

_WORD = 8
_ALIGNMENT = 64
_TRAILER = 4
"""Words after a task's registers: next list, its length, preparation, the units to start."""


class CommandList(NamedTuple):
    """The list of one task: byte offset from the operation's first list, words, addresses."""

    offset: int
    words: int
    addresses: tuple[Address, ...]


@dataclass(frozen=True, eq=False)
class CommandLists:
    """The lists of all tasks of an operation as bytes, addresses left 0; compared by identity."""

    data: bytes
    lists: tuple[CommandList, ...]

    @property
    def words(self) -> int:
        """Commands of all lists."""
        return sum(one.words for one in self.lists)


def command_lists(operation: Operation, pack: Pack) -> CommandLists:
    """Return the command lists of an operation; `pack` makes each word.

    Raises FieldOverflow where a value does not fit its field and `pack` does not allow it.
    """
    tasks = [_task(operation, number, pack) for number in range(operation.tasks)]
    counts = [len(task.words) + _TRAILER for task in tasks]
    offsets = _offsets(counts)
    pieces = []
    for number, task in enumerate(tasks):
        follower = counts[number + 1] if number + 1 < len(tasks) else 0
        if follower:
            task.addresses.append(Address(len(task.words), None, offsets[number + 1]))
        task.words += _trailer(operation.units, len(tasks) > 1, follower)
        pieces.append(_packed(task.words, offsets[number + 1] - offsets[number]))
    lists = tuple(
        CommandList(offset, count, tuple(task.addresses))
        for offset, count, task in zip(offsets, counts, tasks, strict=False)
    )
    return CommandLists(b"".join(pieces), lists)


def _task(operation: Operation, number: int, pack: Pack) -> Commands:
    commands = Commands(pack)
    operation.emit(number, commands)
    return commands


def _offsets(counts: Sequence[int]) -> list[int]:
    """Return where each list begins, and where the next one would."""
    offsets = [0]
    for count in counts:
        offsets.append(offsets[-1] + -(-count * _WORD // _ALIGNMENT) * _ALIGNMENT)
    return offsets


def _packed(words: Sequence[int], size: int) -> bytes:
    return struct.pack(f"<{len(words)}Q", *words).ljust(size, b"\0")


def _trailer(units: tuple[type[Block], ...], several: bool, follower: int) -> Iterator[int]:
    """Yield a list's last words; `follower` is the length of the next task's list, 0 for none."""
    yield command(PC.BASE_ADDRESS()) if several else 0
    amount = -(-(follower - _TRAILER) // 2 // 2) * 2 if follower else 0
    yield _amount(amount)
    yield PREPARE_WORD
    yield enable_word(units)


@functools.cache
def _amount(amount: int) -> int:
    return command(PC.REGISTER_AMOUNTS(PC_DATA_AMOUNT=amount))


@functools.cache
def enable_word(units: tuple[type[Block], ...]) -> int:
    """Return the command that starts some units."""
    bits = {f"{unit.__name__}_OP_EN": 1 for unit in units}
    return enable_command(GLOBAL.OPERATION_ENABLE(**bits).pack())
