"""Register writes of operations, and of the vendor's command lists, to be compared word by word."""

from __future__ import annotations

import json

from teflon_rocket.operations.base import Operation
from teflon_rocket.operations.commands import strict
from teflon_rocket.operations.data import Feature, whole_pitch
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.registers import ENABLE_TARGET, PC, WRITE, split_command
from tests.paths import VENDOR

Words = list[tuple[int, int, int]]
"""(target, register offset, value), addresses 0."""

_ADDRESSES = {0x1070, 0x1110, 0x4020, 0x5018, 0x5020, 0x502C, 0x5038}
_ENDS = {(PC.target + WRITE, one.offset) for one in (PC.BASE_ADDRESS, PC.REGISTER_AMOUNTS)}
_NO_WRITES = (0, 0x41, ENABLE_TARGET)


def vendors(name: str, which: int) -> Words:
    """Return the register writes of one list of the vendor's compiler."""
    assert VENDOR is not None
    lists: list[list[int]] = [[]]
    for segment in json.loads((VENDOR / "rocket" / f"{name}_words.json").read_text()):
        for text in segment["words"]:
            lists[-1].append(int(text, 16))
            if int(text, 16) >> 48 == ENABLE_TARGET:
                lists.append([])
    return _writes(lists[which])


def ours(operation: Operation, task: int = 0) -> Words:
    """Return the register writes of one task."""
    lists = command_lists(operation, strict)
    one = lists.lists[task]
    raw = lists.data[one.offset : one.offset + 8 * one.words]
    return _writes([int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8)])


def _writes(words: list[int]) -> Words:
    found = []
    for target, offset, value in map(split_command, words):
        if target not in _NO_WRITES and (target, offset) not in _ENDS:
            found.append((target, offset, 0 if offset in _ADDRESSES else value))
    return found


def feature(width: int, height: int, channels: int = 32, images: int = 1) -> Feature:
    """Return a feature map with the pitch of those that passes of the DPU touch."""
    return Feature("map", (images, height, width, channels), pitch=whole_pitch(height, width))
