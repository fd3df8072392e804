"""The test set-up itself: data that must be there and is not fails the run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.paths import ROOT


def run_without_data(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    test = folder / "test_example.py"
    test.write_text(
        "from tests.paths import needs_shared\n\n@needs_shared\ndef test_it() -> None:\n    pass\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", f"--rootdir={ROOT}", "-p"]
    command += ["no:cacheprovider", "--confcutdir", str(ROOT), "-p", "conftest", str(test)]
    environment = os.environ | {"TEFLON_SHARED": str(folder), "PYTHONPATH": str(ROOT)} | environ
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_missing_data_skips(tmp_path: Path) -> None:
    done = run_without_data(tmp_path, TEFLON_REQUIRE_SHARED="0")
    assert done.returncode == 0, done.stdout
    assert "1 skipped" in done.stdout


def test_missing_data_fails_where_it_is_required(tmp_path: Path) -> None:
    done = run_without_data(tmp_path, TEFLON_REQUIRE_SHARED="1")
    assert done.returncode != 0
    assert "set TEFLON_SHARED to the folder" in done.stdout + done.stderr
