# Ref: docs/hardware/rocket_vendor.md §2 (elementwise, copies)
"""Passes of the DPU: the words of the vendor's compiler for the same copies and additions."""

from __future__ import annotations

import pytest

from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.passes import Pass, Size
from teflon_rocket.operations.stages import Kind, Other, Source, Stage
from tests.paths import needs_shared
from tests.rocket.words import feature, ours, vendors

A = feature(12, 12)
SIZE = Size(1, 12, 12, 32)


def _addition(a: int, b: int, scale: int, shift: int, out: Converter) -> Pass:
    bs = Stage(add=a, factor=0x4000)
    other = Other(Kind.ADD, Source(feature(12, 12)), b, scale, shift)
    return Pass("add", Source(A), Source(feature(12, 12)), SIZE, bs=bs, other=other, output=out)


def _repeated(times: int) -> Pass:
    target = Source(feature(12 * times, 12 * times))
    return Pass("enlarge", Source(A), target, SIZE, repeat=times)


FILLED = feature(15, 16)


@needs_shared
@pytest.mark.parametrize(
    ("name", "which", "operation"),
    [
        ("eadd", 0, _addition(12, 15, 0x68B4, 2, Converter(-13, 0x5CA1, 29))),
        (
            "emul",
            0,
            Pass(
                "mul", Source(A), Source(feature(12, 12)), SIZE, bs=Stage(add=12),
                other=Other(Kind.MULTIPLY, Source(feature(12, 12)), 15, 1, 0),
                output=Converter(-14, 0x779E, 22),
            ),
        ),
        ("ccat2", 0, Pass("join", Source(A), Source(feature(12, 12, 64)), SIZE)),
        (
            "ccat2",
            1,
            Pass(
                "join", Source(A), Source(feature(12, 12, 64), surface=2), SIZE, bs=Stage(add=15),
                output=Converter(-12, 0x68C1, 16),
            ),
        ),
        (
            "ccatw",
            1,
            Pass(
                "join", Source(A), Source(feature(24, 12), left=12), SIZE, bs=Stage(add=15),
                output=Converter(-12, 0x68A8, 16),
            ),
        ),
        ("cslh", 0, Pass("cut", Source(A, top=1), Source(feature(12, 7)), Size(1, 7, 12, 32))),
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
        ("cpad", 0, Pass("pad", Source(A), Source(feature(15, 16), top=1, left=2), SIZE)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_words_are_the_vendors(name: str, which: int, operation: Pass) -> None:
    assert ours(operation) == vendors(name, which)
