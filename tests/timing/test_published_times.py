"""Predicted beside published times: within what docs/estimate.md says, constants as fitted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import estimate as benchmark
import fit_estimate
import published
from teflon.timing import chart
from teflon_etnaviv import timing as etnaviv
from teflon_rocket import chips
from tests.paths import MODELS, ROOT, needs_shared

PAGE = ROOT / "docs" / "estimate.md"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEFLON_MODELS", str(MODELS))


def stated() -> dict[tuple[str, str], float]:
    """Return the largest error in % that the page states, by chip and model."""
    rows = re.findall(r"^\| (\w+) \| (\w+) \| .* \| within (\d+) % \|$", PAGE.read_text(), re.M)
    return {(chip, model): float(limit) for chip, model, limit in rows}


def test_the_page_states_an_error_for_every_chip_and_model() -> None:
    assert set(stated()) == {(row.chip, row.model) for row in published.TIMES}
    assert max(stated().values()) <= 15


@needs_shared
@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize(
    "row", published.TIMES, ids=lambda r: f"{r.chip}-{r.model}-{r.step}".replace(" ", "_")
)
def test_predictions_stay_within_the_stated_error(row: published.Published) -> None:
    error = benchmark.error(row)
    if row.bound:
        assert error < 0, "the vendor's compiler is not faster than perfect overlap"
    else:
        assert abs(error) <= stated()[row.chip, row.model]


@needs_shared
@pytest.mark.usefixtures("_models")
@pytest.mark.parametrize("chip", ["a311d", "imx8mp", "rk3588"])
def test_constants_are_what_the_fit_finds(chip: str) -> None:
    rows = [r for r in published.TIMES if r.chip == chip and r.fitted]
    kept = chips.RATES[chip] if chip == "rk3588" else etnaviv.RATES[chip]
    assert kept.memory == pytest.approx(fit_estimate.fit(rows), rel=0.002)


@needs_shared
@pytest.mark.usefixtures("_models")
def test_a_fit_moves_towards_its_rows() -> None:
    row = next(r for r in published.TIMES if r.chip == "imx8mp" and r.fitted)
    faster = replace(row, low=row.low / 1.2, high=row.high / 1.2)
    assert fit_estimate.fit([faster]) > fit_estimate.fit([row])
    ms = published.milliseconds(row, {"memory": fit_estimate.fit([faster])})
    assert ms == pytest.approx(faster.middle)


def test_fitted_rows_are_of_one_model_and_the_other_is_left_out() -> None:
    rows = [row for row in published.TIMES if not row.bound]
    assert {row.model for row in rows if row.fitted} == {"mobilenet_v1"}
    assert {row.chip for row in rows if not row.fitted} == {row.chip for row in rows}


@needs_shared
@pytest.mark.usefixtures("_models")
def test_benchmark_writes_all_rows(tmp_path: Path, capsys: Capture) -> None:
    assert benchmark.main(["--out", str(tmp_path), "--chart", str(tmp_path / "a.svg")]) == 0
    rows = json.loads(next(tmp_path.glob("published*.json")).read_text())["rows"]
    assert len(rows) == len(published.TIMES)
    assert {"chip", "model", "step", "used for", "published", "predicted"} <= set(rows[0])
    assert "input caching" in capsys.readouterr().out
    drawn = (tmp_path / "a.svg").read_bytes()
    assert drawn == chart.svg(benchmark.bars(published.TIMES))
    fresh = "run python benchmarks/estimate.py --chart docs/estimate.svg"
    assert drawn == (ROOT / "docs" / "estimate.svg").read_bytes(), fresh


def test_without_models_there_are_no_rows(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("teflon.samples.models.find", lambda name: None)
    assert benchmark.main(["--out", str(tmp_path)]) == 0
    assert fit_estimate.main() == 1
    out = capsys.readouterr().out
    assert "nothing to measure" in out
    assert "public models are missing" in out
