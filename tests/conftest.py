"""Counts that tests report, printed once at the end of the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from teflon.compile import cache
from tests.counts import COUNTS, total


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was compared, op by op; then the texts that tests recorded as `summary`."""
    if COUNTS:
        terminalreporter.section("compared with the reference kernels")
        for name, count in sorted(COUNTS.items()):
            terminalreporter.line(f"{name:<40} {count}")
        terminalreporter.line(f"{'all':<40} {total(COUNTS.values())}")
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    for report in reports:
        for title, text in report.user_properties:
            if title.startswith("summary: "):
                terminalreporter.section(title.removeprefix("summary: "))
                terminalreporter.line(text)


@pytest.fixture
def forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache warns once in a process: here it has not yet."""
    monkeypatch.setattr(cache, "_warnings", set())


@pytest.fixture
def store(tmp_path: Path) -> cache.Cache:
    """A compile cache of this test alone."""
    return cache.Cache(tmp_path / "cache")
