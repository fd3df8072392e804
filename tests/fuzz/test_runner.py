"""The runner sees every way in which a case can end badly, and goes on after it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.fuzz import bad_kinds
from tests.fuzz.runner import Tally, case, main, run

KINDS, NAME = bad_kinds.KINDS, bad_kinds.__name__


def tally(name: str, count: int) -> Tally:
    found = Tally(seed=1)
    run(NAME, KINDS[name], found, count, time.monotonic() + 60)
    return found


def test_good_ends_are_counted() -> None:
    found = tally("well", 50)
    assert found.done == 50
    assert not found.defects
    assert found.outcomes["ran"] + found.outcomes["refused"] == 50
    assert found.outcomes["ran"] == found.fields["field 1"] > 10


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("raises", r"raw KeyError tests/fuzz/bad_kinds\.py:\d+ _raises"),
        ("hangs", r"hang tests/fuzz/bad_kinds\.py:\d+ _hangs"),
        ("no-signals", r"hang outside Python, File .*bad_kinds\.py.* in _hangs_without_signals"),
        ("crashes", r"crash SIGABRT, File .*bad_kinds\.py.* in _crashes"),
        ("memory", r"raw MemoryError tests/fuzz/bad_kinds\.py:\d+ _takes_memory"),
        ("warns", r"raw RuntimeWarning tests/fuzz/bad_kinds\.py:\d+ _warns"),
        ("thread", r"stray KeyError tests/fuzz/bad_kinds\.py:\d+ _raises"),
        ("mutator", r"mutator IndexError tests/fuzz/bad_kinds\.py:\d+ _does_not_mutate"),
    ],
)
def test_bad_ends_have_a_place_and_a_case(name: str, defect: str) -> None:
    count = 1 if name == "no-signals" else 2  # it is waited for
    found = tally(name, count)
    assert found.done == count
    ((what, ends),) = found.defects.items()
    assert re.fullmatch(defect, what), what
    assert ends == (count, 0)


def test_a_case_is_always_the_same() -> None:
    kind = KINDS["well"]
    some = [[case(kind, [b"good"], seed, number)[0] for number in range(20)] for seed in (1, 1, 2)]
    assert some[0] == some[1] != some[2]


def test_a_run_goes_on_where_the_last_one_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state.json"
    wanted = ["--kind", "well", "--count", "10", "--state", str(state)]
    assert [main(KINDS, NAME, wanted) for _ in range(2)] == [0, 0]
    assert json.loads(state.read_text())["well"]["done"] == 20
    assert "well: 20 inputs (seed 0)" in capsys.readouterr().out


def test_a_defect_is_the_exit_status_and_one_case_can_be_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(KINDS, NAME, ["--kind", "raises", "--count", "3"]) == 1
    assert "3 raw KeyError tests/fuzz/bad_kinds.py" in capsys.readouterr().out
    with pytest.raises(KeyError):
        main(KINDS, NAME, ["--kind", "raises", "--one", "2"])
    file = tmp_path / "input"
    assert main(KINDS, NAME, ["--kind", "well", "--one", "2", "--write", str(file)]) == 0
    assert file.read_bytes() == case(KINDS["well"], [b"good"], 0, 2)[0].data
