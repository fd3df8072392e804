"""A program that makes its own requests on a virtual board, also recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from teflon.errors import RecordingError
from teflon_common import recording
from teflon_etnaviv import teflon_recorder
from tests.etnaviv.board_program import WAYS
from tests.kernel.helpers import needs_shim
from tests.paths import ROOT

NODE = "/dev/dri/renderD128"
TEFLON = [
    sys.executable, "-P", "-c", "import sys; from teflon.cli import main; sys.exit(main())",
]  # fmt: skip


@needs_shim
@pytest.mark.parametrize("way", ["plain", "recorded", "intercepted", "in real time"])
def test_every_way_works(tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file = str(tmp_path / "seen.npz")
    options = {"recorded": ["--record", file], "in real time": ["--speed", "real"]}.get(way, [])
    program = [sys.executable, "-P", "-m", "tests.etnaviv.board_program", NODE]
    if way == "intercepted":
        program = [*TEFLON, "intercept", "-o", file, "--", *program]
    done = subprocess.run(
        [*TEFLON, "board", "a311d", *options, "--", *program],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == {way.__name__: True for way in WAYS}
    if way in ("recorded", "intercepted"):
        _check(sorted(tmp_path.glob("seen*.npz")))


def _check(files: list[Path]) -> None:
    """All can be shown; those whose submits choose their addresses can be replayed."""
    recorder = teflon_recorder()
    assert files
    replayed = 0
    for file in files:
        log = recording.read(file).log
        if not any(entry["ioctl"] == "GEM_NEW" for entry in log):
            continue  # the requests that are refused, or those of a child without its parent's
        assert "submit 0: 56 bytes" in recorder.show(str(file), whole=True)
        if any(entry.get("relocs") for entry in log):
            with pytest.raises(RecordingError, match="lets the kernel choose addresses"):
                recorder.replay(str(file), {})
            continue
        kept = recording.read(file).arrays
        for name, array in recorder.replay(str(file), {}).items():
            if name.startswith("after_"):
                assert (array == kept[name]).all()
                replayed += 1
    assert replayed >= 2
