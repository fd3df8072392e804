"""`make test` fails where a test leaves a file in the checkout."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ci.leaves_nothing import main
from tests.paths import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/out/\n")
    (tmp_path / "mine.txt").touch()
    return tmp_path


def code(text: str) -> list[str]:
    return [sys.executable, "-c", f"from pathlib import Path; {text}"]


def test_nothing_left(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(code("Path('out').mkdir(); Path('out/x').touch()"), checkout) == 0
    assert main(code("Path('mine.txt').write_text('changed')"), checkout) == 0
    assert capfd.readouterr().err == ""


def test_a_file_that_is_left_is_named(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(code("Path('5').mkdir(); Path('5/x.entry').touch()"), checkout) == 1
    assert "left 5/x.entry, must leave nothing that git does not ignore" in capfd.readouterr().err


def test_the_command_s_own_failure_stays(checkout: Path) -> None:
    assert main(code("Path('x').touch(); raise SystemExit(3)"), checkout) == 3


def test_outside_a_checkout_the_command_just_runs(tmp_path: Path) -> None:
    assert main(code("Path('x').touch()"), tmp_path) == 0


def test_make_test_uses_it() -> None:
    makefile = Path(__file__).parents[2].joinpath("Makefile").read_text()
    assert "python -P ci/leaves_nothing.py python -P -m pytest" in makefile


def test_the_checkout_has_only_the_folders_that_the_page_names() -> None:
    """A file that a test left may also have been committed."""
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this is no git checkout")
    names = [name for name in done.stdout.decode().split("\0") if "/" in name]
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    folders = {name.partition("/")[0] for name in names} - {".ci", "teflon"}
    assert [folder for folder in folders if f"`{folder}" not in page] == []
