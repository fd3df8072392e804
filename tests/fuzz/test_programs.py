"""Damaged programs of every driver behind right checksums: nothing but our own errors comes."""

from __future__ import annotations

import os
import time

import pytest

from teflon.devices import open_device
from teflon.errors import DriverUnavailable
from tests.fuzz.container import Container
from tests.fuzz.programs import KINDS
from tests.fuzz.runner import Tally, run

MANY = int(os.environ.get("TEFLON_FUZZ", "1"))
"""By how much longer these tests run than usual."""
CASES, SECONDS = 150, 60.0
SEED = 2


@pytest.mark.parametrize("name", KINDS)
def test_nothing_but_errors_of_ours(name: str) -> None:
    """`python -m tests.fuzz.programs --kind KIND --seed SEED --one CASE` shows a defect."""
    if name == "tflite":
        try:
            open_device("tflite")
        except DriverUnavailable as error:
            pytest.skip(str(error))
    found = Tally(SEED)
    deadline = time.monotonic() + MANY * SECONDS
    run("tests.fuzz.programs", KINDS[name], found, MANY * CASES, deadline)
    assert not found.defects, found.text(name)
    assert found.outcomes["refused"]
    assert found.outcomes["ran"] + found.outcomes["faulted"]


def test_a_container_that_is_not_damaged_is_the_same() -> None:
    """Else mutants would be refused for what was not meant."""
    for name, kind in KINDS.items():
        if name not in ("stages", "tflite"):
            for seed in kind.seeds()[:5]:
                assert Container.of(seed).copy().to_bytes() == seed
