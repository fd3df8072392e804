# Ref: docs/hardware/rocket_vendor.md §2 (elementwise, copies)
"""Passes of the DPU: the words of the vendor's compiler for the same copies and additions."""

from __future__ import annotations

import json

import pytest

from teflon_rocket.operations.commands import strict
from teflon_rocket.operations.data import Feature
from teflon_rocket.operations.lists import command_lists
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.passes import Pass, Size
from teflon_rocket.operations.stages import Kind, Other, Source, Stage
from teflon_rocket.registers import PC, WRITE, split_command
from tests.paths import VENDOR, needs_shared

_ADDRESSES = {0x4020, 0x5018, 0x5020, 0x502C, 0x5038}
_ENDS = {
    (PC.target + WRITE, register.offset) for register in (PC.BASE_ADDRESS, PC.REGISTER_AMOUNTS)
}

Words = list[tuple[int, int, int]]


def _vendor(name: str, which: int) -> Words:
    """The register writes of one list, addresses 0."""
    assert VENDOR is not None
    path = VENDOR / "rocket" / f"{name}_words.json"
    lists: list[Words] = [[]]
    for segment in json.loads(path.read_text()):
        for text in segment["words"]:
            target, offset, value = split_command(int(text, 16))
            if target == 0x81:
                lists.append([])
            elif target not in (0, 0x41) and (target, offset) not in _ENDS:
                lists[-1].append((target, offset, 0 if offset in _ADDRESSES else value))
    return lists[which]


def _ours(operation: Pass) -> Words:
    lists = command_lists(operation, strict)
    found = []
    for number in range(lists.lists[0].words):
        word = int.from_bytes(lists.data[8 * number : 8 * number + 8], "little")
        target, offset, value = split_command(word)
        if target not in (0, 0x41, 0x81) and (target, offset) not in _ENDS:
            found.append((target, offset, value))
    return found


def _map(width: int, height: int, channels: int = 32) -> Feature:
    pitch = -(-width * height // 4) * 4
    return Feature("map", (1, height, width, channels), pitch=pitch)


A = _map(12, 12)
SIZE = Size(1, 12, 12, 32)


def _addition(a: int, b: int, scale: int, shift: int, out: Converter) -> Pass:
    bs = Stage(add=a, factor=0x4000)
    other = Other(Kind.ADD, Source(_map(12, 12)), b, scale, shift)
    return Pass("add", Source(A), Source(_map(12, 12)), SIZE, bs=bs, other=other, output=out)


def _repeated(times: int) -> Pass:
    target = Source(_map(12 * times, 12 * times))
    return Pass("enlarge", Source(A), target, SIZE, repeat=times)


FILLED = _map(15, 16)


@needs_shared
@pytest.mark.parametrize(
    ("name", "which", "operation"),
    [
        ("eadd", 0, _addition(12, 15, 0x68B4, 2, Converter(-13, 0x5CA1, 29))),
        (
            "emul",
            0,
            Pass(
                "mul", Source(A), Source(_map(12, 12)), SIZE, bs=Stage(add=12),
                other=Other(Kind.MULTIPLY, Source(_map(12, 12)), 15, 1, 0),
                output=Converter(-14, 0x779E, 22),
            ),
        ),
        ("ccat2", 0, Pass("join", Source(A), Source(_map(12, 12, 64)), SIZE)),
        (
            "ccat2",
            1,
            Pass(
                "join", Source(A), Source(_map(12, 12, 64), surface=2), SIZE, bs=Stage(add=15),
                output=Converter(-12, 0x68C1, 16),
            ),
        ),
        (
            "ccatw",
            1,
            Pass(
                "join", Source(A), Source(_map(24, 12), left=12), SIZE, bs=Stage(add=15),
                output=Converter(-12, 0x68A8, 16),
            ),
        ),
        ("cslh", 0, Pass("cut", Source(A, top=1), Source(_map(12, 7)), Size(1, 7, 12, 32))),
        (
            "cpad",
            1,
            Pass(
                "fill", Source(FILLED), Source(FILLED), Size(1, 1, 15, 32), bs=Stage(factor=0),
                bn=Stage(add=-12),
            ),
        ),
        ("rnn2", 0, _repeated(2)),
        ("rnn3", 0, _repeated(3)),
        ("krnn8", 0, _repeated(8)),
        ("cpad", 0, Pass("pad", Source(A), Source(_map(15, 16), top=1, left=2), SIZE)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_words_are_the_vendors(name: str, which: int, operation: Pass) -> None:
    assert _ours(operation) == _vendor(name, which)
