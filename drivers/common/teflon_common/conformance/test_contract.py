"""Runs every check of the interface, and checks the lists of expectations themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teflon_common.conformance.bench import Bench
from teflon_common.conformance.contract import CHECKS, run_check
from teflon_common.conformance.expectations import Expectations
from teflon_common.conformance.grid import cases
from teflon_common.conformance.matrix import CONTRACT


@pytest.mark.parametrize("name", CHECKS)
def test_contract(bench: Bench, name: str, judge: Callable[..., None]) -> None:
    """The device behaves as `teflon.pipe` requires."""
    judge(f"contract[{name}]", CONTRACT, "", lambda: run_check(bench, name))


def test_expectations_name_cases(bench: Bench, expectations: Expectations) -> None:
    """Every line of the lists names an existing case."""
    known = [*(case.name for case in cases()), *(f"contract[{name}]" for name in CHECKS)]
    stale = expectations.stale(known)
    assert not stale, f"{bench.name}: there is no case {', '.join(stale)}"
