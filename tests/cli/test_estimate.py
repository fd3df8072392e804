"""`teflon estimate`: table, JSON, pictures, refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from teflon.cli import main
from teflon.ir.builder import Builder
from teflon.ir.text import to_text

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


def test_the_reference_has_a_rough_estimate(capsys: Capture) -> None:
    assert main(["estimate", "digits_uint8", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {s["engine"] for s in found["steps"]} == {"cpu"}
    assert found["totals"]["macs"] == 46592
    assert found["totals"]["utilisation"] == 0


def test_an_inference_over_several_cores(tmp_path: Path, capsys: Capture) -> None:
    """Where it pays the sums are of all cores, times of the slowest one; one core stands beside."""
    path = tmp_path / "heavy.ir"
    random = np.random.default_rng(0)
    b = Builder("heavy")
    x = b.input("x", "u8", (1, 160, 60, 32), 1 / 64, 3)
    b.output(b.conv2d(x, random.integers(0, 256, (32, 7, 7, 32), np.uint8)))
    path.write_text(to_text(b.build()))
    assert main(["estimate", str(path), "--device", "rk3588", "--cores", "all"]) == 0
    out = capsys.readouterr().out
    gain = re.search(r"^one core (\S+) ms, divided (\S+) ms: (\S+) times as fast", out, re.M)
    assert gain
    one, divided, times = map(float, gain.groups())
    assert times == pytest.approx(one / divided, abs=0.02)
    assert 1.5 < times < 3
    assert re.search(
        r"^partition 0: stage 0: rows on 3 cores, \d+ % MACs repeated: conv2d$", out, re.M
    )
    assert main(["estimate", str(path), "--device", "rk3588", "--cores", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["one_core_ms"] == pytest.approx(one, abs=0.01)
    assert found["totals"]["ms"] == pytest.approx(divided, abs=0.01)
    assert {step["engine"] for step in found["steps"]} == {"npu x3", "host"}
    assert any("1 stage on 3 cores" in remark for remark in found["remarks"])


def test_cores_need_the_model_itself(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "digits.teflon"
    assert main(["compile", "digits_int8", "--device", "rk3588", "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["estimate", str(path), "--cores", "3"]) == 1
    assert "name the model itself" in capsys.readouterr().err


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
        (["--cores", "4"], r"cores: is 4, must be 1 to 3 or all \(rk3588 has 3 cores\)"),
        (["--cores", "many"], r"cores: is many, must be 1 to 3 or all"),
    ],
)
def test_refusals(arguments: list[str], text: str, capsys: Capture) -> None:
    assert main(["estimate", "digits_int8", "--device", "rk3588", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"teflon: .*{text}.*\n", err), err


def test_cameras(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "g.svg"
    command = ["estimate", "digits_int8", "--device", "rk3588", "--streams", "2", "--fps", "50"]
    assert main([*command, "--chart", str(path)]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^camera (\d) +50\.00$", out, re.M) == ["0", "1"]
    assert re.search(r"^rk3588: 3 workers with 2 threads each\n.*; cores busy \d+\.\d%$", out, re.M)
    assert "modelled time, not measured" in out
    assert b"core 2" in path.read_bytes()
    assert main([*command, "--workers", "1", "--json", "--option", "memory=shared"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["workers"] == 1
    assert found["frames"] == 400
    assert found["frames_per_second"] == pytest.approx([50.0, 50.0])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rk3588", "--streams", "0"], r"streams: is 0, must be more than 0"),
        (["rk3588", "--streams", "1", "--fps", "-1"], r"fps: is -1\.0, must be more than 0"),
        (["rk3588", "--streams", "1", "--workers", "0"], r"workers: is 0, must be more than 0"),
        (["rk3588", "--streams", "1", "--cores", "3"], r"--cores: divides one inference"),
        (["cpu", "--streams", "1"], r"cpu: the simulator of driver cpu has no modelled time"),
        (
            ["a311d", "--streams", "1"],
            r"a311d: the simulator of driver etnaviv has no modelled time",
        ),
    ],
)
def test_what_cannot_be_served(arguments: list[str], text: str, capsys: Capture) -> None:
    assert main(["estimate", "digits_int8", "--device", *arguments]) == 1
    assert re.search(text, capsys.readouterr().err)
