"""Every case of the grid."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teflon_common.conformance.bench import Bench, run_case
from teflon_common.conformance.case import Case
from teflon_common.conformance.grid import cases


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_operation(bench: Bench, case: Case, judge: Callable[..., None]) -> None:
    """What the device takes, it computes as the reference does."""
    judge(case.name, case.op, case.form, lambda: run_case(bench, case))
