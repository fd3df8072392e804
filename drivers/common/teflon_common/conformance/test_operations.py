"""Runs every case of the grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teflon_common.conformance.bench import Bench, run_case
from teflon_common.conformance.case import Case
from teflon_common.conformance.grid import cases


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_operation(bench: Bench, case: Case, judge: Callable[..., None]) -> None:
    """The device computes the same as the reference in all operations that it supports."""
    judge(case.name, case.op, case.form, lambda: run_case(bench, case))
