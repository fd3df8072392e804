"""The demo runs, on a part of the digits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import demo
from teflon.samples import digits, models


def test_demo_without_public_models(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = digits.held_out_set()
    some = digits.Digits(every.images[:32], every.labels[:32])
    monkeypatch.setattr(digits, "held_out_set", lambda: some)
    monkeypatch.setattr(models, "cache_folder", lambda: tmp_path)
    monkeypatch.delenv("TEFLON_MODELS", raising=False)
    monkeypatch.setattr(sys, "argv", ["demo", "--device", "cpu", "--out", str(tmp_path / "out")])
    assert demo.main() == 0
    out = capsys.readouterr().out
    assert "same digit for 32; scores differ by at most 0 of 255 steps" in out
    assert "mobilenet_v1: not on this machine, left out" in out
    assert (tmp_path / "out" / "digits.png").stat().st_size > 10_000


def test_demo_with_a_wrong_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["demo", "--device", "sim:none", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    assert demo.main() == 1
    assert capsys.readouterr().err.startswith("demo: device 'sim:none': is not known")
