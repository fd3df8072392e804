"""What flags of TEFLON_DEBUG show of real models on every simulated chip."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import teflon
from teflon import debug
from teflon.ir.types import Array
from teflon.run.runner import Runner
from teflon.samples import models
from teflon_etnaviv.program import EtnavivProgram
from teflon_rocket.program import RocketProgram

CHIPS = ("rk3588", "a311d", "s905d3", "imx8mp")

Flags = Callable[[str], None]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Flags:
    return lambda names: monkeypatch.setattr(debug, "_on", frozenset(names.split(",")))


def loaded(chip: str) -> Runner:
    return teflon.load(models.resolve("digits_uint8"), f"sim:{chip}")


def outputs(chip: str) -> list[Array]:
    with loaded(chip) as model:
        random = np.random.default_rng(0)
        info = model.inputs[0]
        return model.run(random.integers(0, 256, info.shape, info.dtype))


@pytest.mark.parametrize("chip", CHIPS)
def test_tasks_is_stream_without_commands(chip: str, flags: Flags, capsys: Capture) -> None:
    flags("tasks")
    loaded(chip).close()
    tasks = capsys.readouterr().err.splitlines()
    flags("stream")
    loaded(chip).close()
    stream = capsys.readouterr().err.splitlines()
    assert tasks[0] == stream[0] == "# partition 0"
    assert tasks[1] == stream[1]
    assert 10 < len(tasks) < len(stream)
    counted = [int(n) for n in re.findall(r"^ *task (\d+):", "\n".join(tasks), re.M)]
    with loaded(chip) as model:
        assert len(counted) == sum(
            p.statistics["tasks"] for p in model.programs if p.driver != "cpu"
        )


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("names", ["sync", "roundtrip", "sync,roundtrip,trace"])
def test_flags_do_not_change_results(
    chip: str, names: str, flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEFLON_TRACE", str(tmp_path / "t.json"))
    monkeypatch.setattr("teflon.trace._recorder", None)
    want = outputs(chip)
    flags(names)
    found = outputs(chip)
    assert all(np.array_equal(a, b) for a, b in zip(want, found, strict=True))


def test_sync_submits_every_operation_alone(flags: Flags, capsys: Capture) -> None:
    flags("sync,ioctl")
    with loaded("rk3588") as model:
        model.run(np.zeros(model.inputs[0].shape, model.inputs[0].dtype))
        jobs = [j for p in model.programs if isinstance(p, RocketProgram) for j in p.jobs]
    shown = capsys.readouterr().err
    assert len(re.findall(r"^rocket SUBMIT\(.*job_count=1[,)]", shown, re.M)) == sum(
        len(job.operations) for job in jobs
    )


@pytest.mark.parametrize("chip", CHIPS)
def test_bos_have_upstreams_names(
    chip: str, flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags("bos")
    outputs(chip)
    files = {path.name for path in tmp_path.iterdir()}
    kinds = {re.fullmatch(r"mesa-(\w+)-\d{3}-\d{3}\.bin", name) for name in files}
    assert None not in kinds
    found = {match[1] for match in kinds if match}
    assert found >= {"input", "output"}
    assert found >= ({"weights", "biases", "regcmd"} if chip == "rk3588" else {"nn", "cmd"})
    assert all(path.stat().st_size for path in tmp_path.iterdir())


def test_rocket_tasks(flags: Flags, capsys: Capture) -> None:
    flags("rocket-tasks")
    with loaded("rk3588") as model:
        shown = capsys.readouterr().err
        tasks = sum(p.statistics["tasks"] for p in model.programs if p.driver == "rocket")
    assert len(re.findall(r"^  task \d+: ", shown, re.M)) == tasks
    assert "rocket: stem convolution 8x8x1 -> 8x8x16, kernel 3x3 stride 1x1, banks " in shown


@pytest.mark.parametrize("chip", ["a311d", "imx8mp"])
def test_etnaviv_jobs(chip: str, flags: Flags, capsys: Capture) -> None:
    flags("etnaviv-jobs")
    with loaded(chip) as model:
        lines = capsys.readouterr().err.splitlines()
        program = next(p for p in model.programs if isinstance(p, EtnavivProgram))
    title = re.fullmatch(r"dumping intermediate graph: (\d+) operations", lines[0])
    assert title
    count = int(title[1])
    assert lines[1:3] == ["idx type   in           out          operation", "=" * 96]
    rows = lines[3 : 3 + count]
    assert [int(row[:3]) for row in rows] == list(range(count))
    launched = list(dict.fromkeys(program.launches))
    names = [re.sub(r" \(\w+\)$", "", row[37:]) for row in rows if row[4:6] in ("NN", "TP")]
    assert list(dict.fromkeys(names)) == launched
    assert len(lines) > 3 + count + 1


def test_partition_says_why(flags: Flags, capsys: Capture) -> None:
    flags("partition")
    with loaded("rk3588") as model:
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == len(model.graph.ops)
        for line, placement in zip(lines, model.plan.placements.values(), strict=True):
            assert line.startswith(f"{placement.op.title} -> ")
            assert all(reason in line for _, reason in placement.reasons)


def test_passes_and_ir(flags: Flags, capsys: Capture) -> None:
    flags("passes,ir")
    loaded("rk3588").close()
    shown = capsys.readouterr().err
    timed = re.findall(r"^pass (\w+): \d+ -> \d+ operations, \d+\.\d ms$", shown, re.M)
    changed = re.findall(r"^# after (\w+)\ngraph ", shown, re.M)
    assert timed
    assert set(changed) <= set(timed)
