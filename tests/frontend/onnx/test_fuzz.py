"""Damaged files: an error or a graph that can be cut, never a crash, a hang, or much memory."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.onnx.mutations import damaged, outcome, seeds

CASES = 200


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return seeds()


def test_the_files_are_good_before_they_are_damaged(files: list[bytes]) -> None:
    rng = np.random.default_rng(0)
    errors = [outcome(data, rng).error for data in files]
    assert [error for error in errors if error and "must be given" not in error] == []
    assert errors.count("") >= len(files) - 1  # open dimensions: `dynamic_size`


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_errors_or_graphs(seed: int, files: list[bytes]) -> None:
    rng = np.random.default_rng(seed)
    errors = set()
    pieces = 0
    for _ in range(CASES):
        data = damaged(rng, files)
        found = outcome(data, rng)
        assert found.defect(len(data)) == ""
        errors.add(found.error)
        pieces += found.pieces
    assert len(errors) > CASES // 10  # the changes do reach different checks
    assert pieces > 0
