"""Damaged files: an error or a graph, never a crash, a hang or more memory than they deserve."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.tflite.mutations import damaged, outcome, seeds

CASES = 250
FILES = seeds()


def test_the_files_are_good_before_they_are_damaged() -> None:
    assert [outcome(data).error for data in FILES] == [""] * len(FILES)


@pytest.mark.parametrize("seed", range(12))
def test_damaged_files_are_errors_or_graphs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    errors = set()
    for _ in range(CASES):
        data = damaged(rng, FILES)
        found = outcome(data)
        assert found.defect(len(data)) == ""
        errors.add(found.error)
    assert len(errors) > CASES // 8  # the changes do reach different checks
