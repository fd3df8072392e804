"""What the check accepts runs and is right, also with extreme numbers; the rest has a reason."""

from __future__ import annotations

import os
import warnings

import pytest

from tests.whole.extreme_numbers import DEVICES, GOOD, outcome

COUNT = int(os.environ.get("TEFLON_EXTREME", "120"))


@pytest.mark.parametrize("device", DEVICES)
def test_accepted_is_right_and_refused_has_a_reason(device: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {seed: outcome(seed, device) for seed in range(COUNT)}
    assert {seed: text for seed, text in found.items() if text not in GOOD} == {}
    counts = [list(found.values()).count(text) for text in GOOD]
    assert counts[0] > COUNT / 3, counts
    assert counts[2] > COUNT / 20, counts
