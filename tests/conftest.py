"""Counts that tests report, printed once at the end of the run."""

from __future__ import annotations

import pytest

from tests.counts import COUNTS, total


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was compared, op by op."""
    if COUNTS:
        terminalreporter.section("compared with the reference kernels")
        for name, count in sorted(COUNTS.items()):
            terminalreporter.line(f"{name:<40} {count}")
        terminalreporter.line(f"{'all':<40} {total(COUNTS.values())}")
