"""A short run of each kind of input that is no program; the long ones are commands."""

from __future__ import annotations

import time

import pytest

from tests.fuzz import cache_entries, ir_text, recordings, teflon_files
from tests.fuzz.runner import Kind, Tally, run

SECONDS = 8.0
KINDS = [
    (module.__name__, kind)
    for module in (cache_entries, ir_text, recordings, teflon_files)
    for kind in module.KINDS.values()
]


@pytest.mark.parametrize(("module", "kind"), KINDS, ids=[kind.name for _, kind in KINDS])
def test_no_damaged_input_raises_or_hangs(module: str, kind: Kind) -> None:
    tally, seeds = Tally(3), kind.seeds()
    run(module, kind, tally, 10_000, time.monotonic() + SECONDS, seeds)
    assert not tally.defects
    assert tally.done, "the run did begin"
    assert len(tally.outcomes) > 1 or tally.done < 50, "some are refused, others are not"
