"""`teflon record` and `teflon replay`: the frame; drivers test what they record."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from teflon.cli import main
from teflon.samples import models
from tests.paths import GOLDEN, needs_shared

Capture = pytest.CaptureFixture[str]


def save(path: Path, meta: object) -> Path:
    np.savez(path, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8))
    return path


def test_files_that_are_not_recordings(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    save(tmp_path / "list.npz", [1])
    save(tmp_path / "empty.npz", {})
    for name in ("text", "other", "list", "empty"):
        assert main(["replay", str(tmp_path / f"{name}.npz")]) == 1
        assert capsys.readouterr().err == (
            f"teflon: {tmp_path}/{name}.npz: is not a recording, must be an .npz file with `meta`\n"
        )
    assert main(["replay", str(tmp_path / "none.npz")]) == 1
    assert capsys.readouterr().err.endswith("none.npz: cannot be read, No such file or directory\n")


def test_recordings_of_unknown_drivers(tmp_path: Path, capsys: Capture) -> None:
    path = save(tmp_path / "r.npz", {"driver": "stranger"})
    assert main(["replay", str(path)]) == 1
    assert "r.npz: driver is 'stranger', must be one of cpu" in capsys.readouterr().err


def test_drivers_that_cannot_record(tmp_path: Path, capsys: Capture) -> None:
    path = save(tmp_path / "r.npz", {"driver": "cpu"})
    assert main(["replay", str(path)]) == 1
    assert main(["replay", str(path), "--show"]) == 1
    assert main(["record", "digits_int8", "--device", "cpu", "-o", str(tmp_path / "x.npz")]) == 1
    assert main(["record", "digits_int8", "--device", "cpu", "-o", str(tmp_path / "x.txt")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"teflon: {path}: driver cpu cannot replay recordings",
        f"teflon: {path}: driver cpu cannot show recordings",
        "teflon: option 'record': driver cpu does not know it, it takes none",
        f"teflon: -o {tmp_path}/x.txt: must end in .npz",
    ]


def test_a_recording_of_ours_is_shown_and_replayed(tmp_path: Path, capsys: Capture) -> None:
    path, outputs = tmp_path / "r.npz", tmp_path / "y.npz"
    assert main(["record", "digits_int8", "--device", "sim:rk3588", "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert "probability: int8[1, 10]" in out
    assert f"{path}: {path.stat().st_size} bytes" in out
    assert main(["replay", str(path), "--show"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("digits_int8 on rocket")
    assert "submit 0: 1 jobs, 8 command lists" in shown
    assert main(["replay", str(path), "--text"]) == 0
    assert "CREATE_BO size=4864" in capsys.readouterr().out
    assert main(["replay", str(path), "-o", str(outputs)]) == 0
    assert "logits: int8[1, 10]" in capsys.readouterr().out
    assert np.load(outputs)["logits"].shape == (1, 10)


def test_a_recording_of_ours_says_which_model_ran(tmp_path: Path) -> None:
    path, model = tmp_path / "r.npz", models.resolve("digits_int8")
    assert main(["record", str(model), "--device", "sim:rk3588", "-o", str(path)]) == 0
    with np.load(path) as archive:
        meta = json.loads(bytes(archive["meta"]))
    assert meta["model"] == "digits_int8"
    assert meta["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert meta["inputs"][0]["shape"] == [1, 8, 8, 1]
    assert [op["name"] for op in meta["ops"]][:2] == ["CONV_2D", "DEPTHWISE_CONV_2D"]
    assert meta["teflon_nodes"][0]["verdict"] == "supported"
    assert not meta["teflon_nodes"][8]["supported"]
    assert [len(part) for part in meta["teflon_partitions"]] == [8]


@needs_shared
def test_mesas_recording_of_mobilenet_is_replayed(capsys: Capture) -> None:
    assert GOLDEN
    assert main(["replay", str(GOLDEN / "rocket" / "mb-004.npz")]) == 0
    assert "uint8[1, 56, 56, 128]" in capsys.readouterr().out
