"""The benchmarks run and count, on the shipped model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import choose
import compile_time
import compression
import coverage
import delegate_overhead
import estimate_time
import host_time
import images
import latency
import load_time
import memory
import per_op
import pictures
import quantize
import run_all
import simulate
import sizes
import summary
import top1
from common import description
from teflon.compile.partition import Plan
from teflon.compile.planning import plan_model
from teflon.compile.source import read_graph
from teflon.frontend.tflite import writer
from teflon.inspect.report import Report
from teflon.ir import DType, TensorType, Value
from teflon.ir.builder import Builder
from teflon.samples import models
from teflon.samples.images import to_input
from tests.paths import ROOT

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEFLON_MODELS", "")


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    return ["--models", "digits_int8", "--runs", "1", "--out", str(tmp_path)]


def rows(folder: Path, name: str) -> dict[str, float]:
    result = json.loads((folder / f"{name}-rk3588.json").read_text())
    assert [row["model"] for row in result["rows"]] == ["digits_int8"]
    found: dict[str, float] = result["rows"][0]
    return found


def test_sizes_are_the_same_every_time(argv: list[str], tmp_path: Path, capsys: Capture) -> None:
    sizes.main(argv)
    first = rows(tmp_path, "sizes")
    sizes.main(argv)
    assert rows(tmp_path, "sizes") == first
    assert 20 * first["tasks"] < first["words"] <= 200 * first["tasks"]
    assert first["jobs"] <= first["tasks"]
    assert first["jobs"] < first["Mesa jobs"]
    kinds = ("constants B", "commands B", "tensors B")
    assert sum(first[kind] for kind in kinds) == first["buffers B"] < first["Mesa buffers B"]
    assert first["MACs"] == 46592
    assert "digits_int8" in capsys.readouterr().out


def test_times_of_inference(argv: list[str], tmp_path: Path) -> None:
    host_time.main(argv)
    simulate.main(argv)
    host, simulated = rows(tmp_path, "host_time"), rows(tmp_path, "simulate")
    assert host["partitions"] == 1
    assert host["invoke"] > 0
    assert simulated["device"] > simulated["TFLite, 1 thread"] > 0
    assert simulated["CPU"] > 0
    assert simulated["CPU ratio"] > 0


def test_a_set_of_images(argv: list[str], tmp_path: Path) -> None:
    images.main(argv)
    found = rows(tmp_path, "images")
    assert found["images"] == 100
    assert found["same class"] >= 90
    assert found["set"] * 10 == pytest.approx(found["ms each"])
    assert found["CPU ratio"] > 0


def test_delegate_overhead_is_small(argv: list[str], tmp_path: Path) -> None:
    delegate_overhead.main(argv)
    found = rows(tmp_path, "delegate_overhead")
    assert 0 < found["direct"] < found["delegate"]
    assert found["more"] < 1000  # tens of microseconds, on a machine that has time for us


def test_compile_time_has_its_parts(argv: list[str], tmp_path: Path) -> None:
    compile_time.main(argv)
    row = rows(tmp_path, "compile_time")
    assert 0 < row["read"] < row["new process"]
    assert row["plan and compile"] < row["new process"]


@pytest.mark.parametrize("chip", ["a311d", "s905d3", "imx8mp"])
def test_no_layer_is_above_mesas(argv: list[str], tmp_path: Path, chip: str) -> None:
    assert compression.main([*argv, "--device", chip]) == 0
    table = json.loads((tmp_path / f"compression-{chip}.json").read_text())["rows"]
    assert [row["layers above Mesa's"] for row in table] == [0]
    assert 0 < table[0]["bound B"] < table[0]["ours B"] < table[0]["Mesa B"]
    each = json.loads((tmp_path / f"compression_layers-{chip}.json").read_text())["rows"]
    assert sum(row["ours B"] for row in each) == table[0]["ours B"]


def test_other_chips_have_nothing_to_compress(argv: list[str], capsys: Capture) -> None:
    assert compression.main([*argv, "--device", "rk3588"]) == 0
    assert "nothing to measure" in capsys.readouterr().out


def test_missing_models_are_reported(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.models.find", lambda _name: None)
    assert sizes.main(["--models", "yolox"]) == 0
    out = capsys.readouterr().out
    assert "yolox: not on this machine, left out" in out
    assert "nothing to measure" in out


def test_load_time_has_its_parts(argv: list[str], tmp_path: Path) -> None:
    load_time.main(argv)
    row = rows(tmp_path, "load_time")
    assert min(row[name] for name in ("cold", "warm", "compiled", "upload")) > 0
    assert row["compiled B"] > 1000


def test_memory_grows_with_the_work(argv: list[str], tmp_path: Path) -> None:
    memory.main(argv)
    row = rows(tmp_path, "memory")
    assert 0 < row["load"] < row["invoke"] + 1


def test_predictions(argv: list[str], tmp_path: Path) -> None:
    estimate_time.main(argv)
    assert rows(tmp_path, "estimate")["predicted ms"] > 0


def test_a_small_model_gains_nothing_from_more_cores(argv: list[str], tmp_path: Path) -> None:
    assert latency.main(argv) == 0
    table = json.loads((tmp_path / "latency-rk3588.json").read_text())["rows"]
    assert [row["cores"] for row in table] == [2, 3]
    for row in table:
        assert row["one core ms"] == row["divided ms"] > 0
        assert row["of them divided"] == row["host kB more"] == 0


def test_one_core_cannot_share(argv: list[str], capsys: Capture) -> None:
    assert latency.main([*argv, "--device", "a311d"]) == 0
    assert "nothing to measure" in capsys.readouterr().out


def figures(folder: Path, jobs: int, compiled: float, reference: float | None) -> None:
    folder.mkdir()
    parts: dict[str, dict[str, object]] = {
        "sizes": {"model": "mobilenet_v1", "jobs": jobs, "buffers B": 10, "words": 3},
        "compile_time": {"model": "mobilenet_v1", "plan and compile": compiled},
        "compression_layers": {"layer": "conv"},
    }
    if reference:
        parts["simulate"] = {"model": "mobilenet_v1", "TFLite, 1 thread": reference}
    for name, row in parts.items():
        plain = {"device": "sim:rk3588", "rows": [row]}
        (folder / f"{name}-rk3588.json").write_text(json.dumps(plain))


def test_the_summary_compares(tmp_path: Path, capsys: Capture) -> None:
    before, after, base = tmp_path / "before", tmp_path / "after", tmp_path / "base.json"
    figures(before, 28, compiled=300, reference=20)
    figures(after, 7, compiled=100, reference=10)
    assert summary.main(["--after", str(before), "--before", str(base), "--keep", "abc"]) == 0
    assert "words" not in base.read_text()
    picture = tmp_path / "chart.svg"
    argv = ["--after", str(after), "--before", str(base), "--chart", str(picture)]
    assert summary.main(argv) == 0
    out = capsys.readouterr().out
    assert "before: commit abc" in out
    table = [line.split() for line in out.splitlines() if line.startswith("sim:rk3588")]
    assert [line[2:] for line in table] == [
        ["cold", "compile,", "ms", "150", "100", "1.50", "100", "reached"],  # half as slow now
        ["jobs", "28", "7", "4.00", "6", "missed"],
        ["buffers,", "B", "10", "10", "1.00"],
    ]
    assert "rk3588: jobs" in picture.read_text()
    kept = json.loads((after / "summary.json").read_text())
    assert {row["figure"] for row in kept} == {"cold compile, ms", "jobs", "buffers, B"}


def test_times_without_a_reference_are_not_compared(tmp_path: Path) -> None:
    figures(tmp_path / "before", 28, compiled=300, reference=20)
    figures(tmp_path / "after", 7, compiled=100, reference=None)
    found = summary.rows(*(summary.read(tmp_path / name) for name in ("before", "after")))
    assert {row["figure"]: row["before"] for row in found} == {
        "cold compile, ms": None,
        "jobs": 28,
        "buffers, B": 10,
    }


def test_all_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []
    for part in {part for parts in run_all.PARTS.values() for part in parts}:

        def run(argv: list[str], name: str = part.__name__) -> None:
            asked.append((name, argv[-1]))

        monkeypatch.setattr(part, "main", run)
    monkeypatch.setattr(summary, "main", lambda _argv: asked.append(("summary", "")))
    assert run_all.main([]) == 0
    assert asked[-1] == ("summary", "")
    assert {device for _, device in asked[:-1]} == set(run_all.PARTS)
    assert ("delegate_overhead", "sim:rk3588") in asked
    asked.clear()
    assert run_all.main(["--device", "sim:imx8mp"]) == 0
    assert {device for _, device in asked[:-1]} == {"sim:imx8mp"}


@pytest.mark.parametrize(
    "script", ["benchmarks/run_all.py", "tools/train_digits.py", "examples/demo.py"]
)
def test_scripts_start_as_scripts(script: str) -> None:
    """They import their neighbours, which `python -P` would not find."""
    command = [sys.executable, str(ROOT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: " in done.stdout


# The models at hand ----------------------------------------------------------------------------

DIGITS = str(models.resolve("digits_int8"))


def write_model(path: Path, make: Callable[[Builder], Value]) -> Path:
    b = Builder(path.stem)
    b.output(make(b))
    path.write_bytes(writer.write(b.build()))
    return path


def test_coverage_counts_what_runs_there(tmp_path: Path, capsys: Capture) -> None:
    kept = tmp_path / "figures.json"
    assert coverage.main([DIGITS, "--json", str(kept)]) == 0
    row = json.loads(kept.read_text())["rows"]["digits_int8"]
    report = Report.of(*planned("digits_int8")).as_dict()
    there = report["totals"]["macs"]["rocket rk3588"]
    assert row["macs"] == 100 * there / sum(report["totals"]["macs"].values())
    assert 0 < row["operations"] <= 100
    assert row["jobs"] >= row["partitions"] == report["totals"]["partitions"]["rocket rk3588"]
    assert row["ms"] > 0
    capsys.readouterr()
    row |= {"macs": 12.5, "jobs": 77}
    kept.write_text(json.dumps({"rows": {"digits_int8": row}}))
    assert coverage.main([DIGITS, "--against", str(kept)]) == 0
    header, line = (text for text in capsys.readouterr().out.splitlines() if "digits" in text
                    or "before" in text)  # fmt: skip
    assert "MACs %, before  MACs %, now" in header
    assert line.split()[1] == "12.5"
    assert "77" in line.split()


def planned(name: str) -> tuple[Plan, list[None]]:
    plan = plan_model(read_graph(models.resolve(name)), description("rk3588"))
    return plan, [None] * len(plan.partitions)


def test_models_are_chosen_by_what_is_in_them(tmp_path: Path, capsys: Capture) -> None:
    def dense(dtype: str, b: Builder) -> Value:
        x = b.input("x", dtype, (1, 4), *(() if dtype == "f32" else (0.5, 0)))
        return b.fully_connected(x, np.ones((3, 4), "f4" if dtype == "f32" else "i1"))

    write_model(tmp_path / "eight.tflite", partial(dense, "i8"))
    write_model(tmp_path / "real.tflite", partial(dense, "f32"))
    write_model(tmp_path / "sums.tflite", lambda b: b.relu(b.input("x", "f32", (4,))))
    (tmp_path / "bad.tflite").write_bytes(b"TFL3")
    reasons = {p.stem: choose.kind_of(p).reason for p in choose.paths_of([tmp_path])}
    assert reasons.pop("bad").startswith("not read: ")
    assert reasons == {"eight": "", "real": "multiplies f32", "sums": "multiplies nothing (f32)"}
    assert coverage.main([str(tmp_path / "real.tflite")]) == 1
    assert "no 8-bit models" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more", [[], ["--alone", "--most", "1"], ["--alone", "--kinds", "CONV_2D"]]
)
def test_each_operation_is_near_the_reference(
    more: list[str], tmp_path: Path, capsys: Capture
) -> None:
    assert per_op.main([DIGITS, "--out", str(tmp_path), *more]) == 0
    (row,) = json.loads((tmp_path / "per_op-rk3588.json").read_text())["rows"]
    assert row["layers"] == row["equal"] + row["of 1 step"] > 0
    assert per_op.main([DIGITS, "--out", str(tmp_path), "--within", "-1"]) == 1
    assert "steps" in capsys.readouterr().out


def test_classifiers_see_the_same(tmp_path: Path) -> None:
    assert top1.main([DIGITS, "--pictures", "7", "--out", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "top1-rk3588.json").read_text())["rows"]
    assert row["same"] + row["ties"] == row["pictures"] == 7
    assert row["steps"] >= 0


def test_another_class_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scores(path: Path, device: str, given: list[object]) -> object:
        return np.eye(3)[[0, 1, 2 if device == "cpu" else 1]]

    monkeypatch.setattr(top1, "_scores", scores)
    assert top1.main([DIGITS, "--pictures", "3", "--out", str(tmp_path)]) == 1
    (row,) = json.loads((tmp_path / "top1-rk3588.json").read_text())["rows"]
    assert (row["same"], row["ties"]) == (2, 0)
    assert row["gap"] > 0


def test_pictures_are_the_same_every_time() -> None:
    first, again = (list(pictures.crops(5)) for _ in range(2))
    assert [p.tobytes() for p in first] == [p.tobytes() for p in again]
    assert len({p.size for p in first}) == 5
    nhwc, nchw = (TensorType(DType.INT8, shape) for shape in ((1, 8, 9, 3), (1, 3, 8, 9)))
    assert np.array_equal(
        to_input(first[0], nchw)[0].transpose(1, 2, 0),
        to_input(first[0], nhwc)[0],
    )


def test_quantize_makes_a_mobilenet_that_every_npu_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "_OCR", ("no_such_package", "", ""))
    words = ["--size", "32", "--width", "0.35", "--pictures", "6", "--out", str(tmp_path)]
    assert quantize.main(words) == 0
    found = json.loads((tmp_path / "quantize-all.json").read_text())["rows"]
    assert [row["scales"] for row in found] == ["channel", "tensor"]
    for row in found:
        assert row["rk3588"] == row["a311d"] == row["s905d3"] == row["imx8mp"] == "100.00%"
    assert found[0]["same"] == "6/6"
