"""A Python without its global lock is refused by name, in one sentence."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT

PROGRAM = "import sys; sys._is_gil_enabled = lambda: {}; import teflon; print(teflon.load)"


@pytest.mark.parametrize(("enabled", "code"), [(True, 0), (False, 1)])
def test_the_global_lock_is_needed(enabled: bool, code: int) -> None:
    command = [sys.executable, "-P", "-c", PROGRAM.format(enabled)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    if not enabled:
        last = done.stderr.splitlines()[-1]
        assert re.match(r"ImportError: teflon: this Python runs without its global lock", last)


def test_no_module_in_c_says_that_it_needs_no_lock() -> None:
    """Such a module would run without it; one that says nothing lets Python take it."""
    sources = [*ROOT.glob("teflon/**/*.c"), *ROOT.glob("drivers/**/*.c")]
    assert len(sources) > 5
    assert [s for s in sources if "Py_MOD_GIL_NOT_USED" in s.read_text("utf-8")] == []
