"""`teflon estimate`: table, JSON, pictures, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from teflon.cli import main

Capture = pytest.CaptureFixture[str]


def test_table_and_totals(capsys: Capture) -> None:
    assert main(["estimate", "digits_int8", "--device", "rk3588"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ *\d+ +0 +npu +\S.* (array|memory|launch)$", out, re.M)
    assert re.search(r"^rk3588: \d+\.\d\d ms predicted: array ", out, re.M)
    assert "a prediction, not a measurement" in out


def test_json_is_a_whole_document(capsys: Capture) -> None:
    assert main(["estimate", "digits_int8", "--device", "rk3588", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format"] == 1
    assert found["device"] == "rk3588"
    macs = sum(s["macs"] for s in found["steps"] if s["engine"] == "npu")
    assert macs == found["totals"]["macs"] >= 46592, "an addition may be a convolution here"
    assert found["totals"]["ms"] == pytest.approx(sum(s["ms"] for s in found["steps"]))
    assert {"name", "ms", "utilisation", "limit", "dram_read"} <= set(found["steps"][0])


def test_the_reference_has_a_rough_one(capsys: Capture) -> None:
    assert main(["estimate", "digits_uint8", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {s["engine"] for s in found["steps"]} == {"cpu"}
    assert found["totals"]["macs"] == 46592
    assert found["totals"]["utilisation"] == 0


@pytest.mark.parametrize(("name", "start"), [("a.svg", b"<svg"), ("a.png", b"\x89PNG")])
def test_pictures(name: str, start: bytes, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / name
    assert main(["estimate", "digits_int8", "--device", "rk3588", "--chart", str(path)]) == 0
    assert path.read_bytes().startswith(start)
    assert "predicted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--chart", "x.gif"], r"x\.gif: its name must end in \.svg or \.png"),
        (["--chart", "nowhere/x.svg"], r"there is no folder nowhere"),
        (["--option", "strategy"], r"must be NAME=VALUE"),
        (["--device", "rk9999"], r"rk9999"),
    ],
)
def test_refusals(arguments: list[str], text: str, capsys: Capture) -> None:
    assert main(["estimate", "digits_int8", "--device", "rk3588", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"teflon: .*{text}.*\n", err), err
