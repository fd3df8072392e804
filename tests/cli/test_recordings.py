"""`teflon record` and `teflon replay`: the frame; drivers test what they record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from teflon.cli import main

Capture = pytest.CaptureFixture[str]


def save(path: Path, meta: object) -> Path:
    np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    return path


def test_files_that_are_no_recordings(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    save(tmp_path / "list.npz", [1])
    save(tmp_path / "empty.npz", {})
    for name in ("text", "other", "list", "empty"):
        assert main(["replay", str(tmp_path / f"{name}.npz")]) == 1
        assert capsys.readouterr().err == (
            f"teflon: {tmp_path}/{name}.npz: is no recording, must be an .npz file with `meta`\n"
        )
    assert main(["replay", str(tmp_path / "none.npz")]) == 1
    assert capsys.readouterr().err.endswith("none.npz: cannot be read, No such file or directory\n")


def test_recordings_of_strangers(tmp_path: Path, capsys: Capture) -> None:
    path = save(tmp_path / "r.npz", {"driver": "stranger"})
    assert main(["replay", str(path)]) == 1
    assert "r.npz: is of driver 'stranger', must be one of cpu" in capsys.readouterr().err


def test_drivers_that_do_not_record(tmp_path: Path, capsys: Capture) -> None:
    path = save(tmp_path / "r.npz", {"driver": "cpu"})
    assert main(["replay", str(path)]) == 1
    assert main(["replay", str(path), "--show"]) == 1
    assert main(["record", "digits_int8", "--device", "cpu", "-o", str(tmp_path / "x.npz")]) == 1
    assert main(["record", "digits_int8", "--device", "cpu", "-o", str(tmp_path / "x.txt")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"teflon: {path}: driver cpu replays no recordings",
        f"teflon: {path}: driver cpu reads no recordings",
        "teflon: option 'record': driver cpu does not know it, it takes none",
        f"teflon: -o {tmp_path}/x.txt: must end in .npz",
    ]
