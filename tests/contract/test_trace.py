"""TEFLON_DEBUG=trace: files that Perfetto can open, with everything in them that took time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import draw_trace
import teflon
from teflon import debug, trace
from teflon.run.runner import Runner
from teflon.samples import models
from teflon_etnaviv.program import EtnavivProgram
from teflon_rocket.program import RocketProgram
from tests.paths import MODELS, needs_shared

Event = dict[str, Any]

BEFORE = {"read", "open", "passes", "partitioning", "compile", "upload"}
RUNNING = {"inference", "partition", "convert inputs", "submit", "wait", "convert outputs"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Trace into a file, from nothing."""
    path = tmp_path / "trace.json"
    monkeypatch.setenv("TEFLON_TRACE", str(path))
    monkeypatch.setattr(debug, "_on", frozenset({"trace"}))
    monkeypatch.setattr(trace, "_recorder", None)
    return path


def run(model: Runner) -> None:
    model.run(*(np.zeros(i.shape, i.dtype) for i in model.inputs))


def events(path: Path) -> list[Event]:
    """Return a file's events, every one of them checked."""
    document = json.loads(path.read_text())
    assert document["displayTimeUnit"] in ("ms", "ns")
    found: list[Event] = document["traceEvents"]
    for event in found:
        assert event.keys() >= {"name", "ph", "ts", "pid", "tid", "args"}
        assert event["ph"] in ("M", "X")
        assert isinstance(event["name"], str)
        assert event["name"]
        assert all(isinstance(event[key], int) for key in ("pid", "tid"))
        assert event["ts"] >= 0
        assert event["ph"] == "M" or event["dur"] >= 0
    assert {e["pid"] for e in found} - set(modelled(found).values()) == {os.getpid()}
    named = {e["tid"] for e in found if e["name"] == "thread_name"}
    assert {e["tid"] for e in found if e["ph"] == "X"} <= named
    assert_nested(found)
    return found


def assert_nested(found: list[Event]) -> None:
    """On each track, a span lies within another or beside it: else Perfetto misdraws it."""
    for tid in {e["tid"] for e in found}:
        spans = [e for e in found if e["ph"] == "X" and e["tid"] == tid]
        ends: list[float] = []
        for span in sorted(spans, key=lambda e: (e["ts"], -e["dur"])):
            while ends and ends[-1] <= span["ts"] + 0.0001:
                ends.pop()
            end = span["ts"] + span["dur"]
            assert not ends or end <= ends[-1] + 0.001, span  # floats of microseconds
            ends.append(end)


def modelled(found: list[Event]) -> dict[str, int]:
    """Return the processes that show modelled time, by heading."""
    named = {e["args"]["name"]: e["pid"] for e in found if e["name"] == "process_name"}
    assert named.pop("teflon") == os.getpid()
    assert all("modelled" in name for name in named)
    return named


def on_cores(found: list[Event]) -> list[Event]:
    """Return what the simulated cores did, in this computer's time."""
    cores = {
        e["tid"] for e in found if e["pid"] == os.getpid()
        and e["name"] == "thread_name" and e["args"]["name"].startswith("rk3588 core")
    }  # fmt: skip
    return [e for e in found if e["ph"] == "X" and e["tid"] in cores]


def assert_complete(found: list[Event], model: Runner, runs: int) -> None:
    """Every stage, every operation of the CPU, every job and task of the simulated chip."""
    names = Counter(e["name"] for e in found)
    assert names.keys() >= BEFORE | RUNNING
    assert names["inference"] == runs
    assert names["partition"] == runs * len(model.plan.partitions)
    simulated = Counter(e["name"] for e in on_cores(found) if "job" in e["args"])
    tasks = sum(e["args"]["tasks"] for e in on_cores(found) if "job" in e["args"])
    programs = [p for p in model.programs if isinstance(p, RocketProgram)]
    wanted = Counter(job.name for p in programs for job in p.jobs)
    operations = Counter(e["name"] for e in on_cores(found) if "operation" in e["args"])
    told = Counter(
        name
        for p in programs
        for job in p.jobs
        for name, _ in groupby(job.operations, key=itemgetter(0))  # parts of one are one event
    )
    assert operations == Counter({name: runs * count for name, count in told.items()})
    model_time = [e for e in found if e["pid"] in modelled(found).values() and e["ph"] == "X"]
    assert all(e["args"]["modelled"] for e in model_time)
    for detail, same in (("job", simulated), ("operation", operations)):
        assert Counter(e["name"] for e in model_time if detail in e["args"]) == same
    placed = [o for o, p in model.plan.placements.items() if p.device == 0]
    assert len(told) <= len(placed) <= len(told) + sum(not o.macs for o in placed)
    assert simulated == Counter({name: runs * count for name, count in wanted.items()})
    assert tasks == runs * sum(p.statistics["tasks"] for p in programs)
    assert sum(1 for e in on_cores(found) if e["name"].startswith("task ")) == tasks
    for op, placement in model.plan.placements.items():
        if placement.device == 1:
            assert names[op.where] >= runs


@needs_shared
def test_mobiledet(file: Path) -> None:
    assert MODELS is not None
    path = MODELS / "ssdlite_mobiledet_coco_qat_postprocess.tflite"
    with teflon.load(path, "sim:rk3588") as model:
        run(model)
    found = events(file)
    assert_complete(found, model, 1)
    assert len(on_cores(found)) > 200
    assert len(model.graph.ops) > 90
    assert any(e["args"].get("operation", "").startswith("TFLite_Detection") for e in found)


@pytest.mark.parametrize("device", ["sim:rk3588", "cpu"])
def test_digits(file: Path, device: str) -> None:
    with teflon.load(models.resolve("digits_uint8"), device) as model:
        run(model)
        run(model)
    found = events(file)
    if device == "cpu":
        assert {e["name"] for e in found} >= {op.where for op in model.graph.ops}
    else:
        assert_complete(found, model, 2)


@pytest.mark.parametrize("chip", ["a311d", "imx8mp"])
def test_launches_of_the_other_npus(file: Path, chip: str) -> None:
    with teflon.load(models.resolve("digits_uint8"), f"sim:{chip}") as model:
        run(model)
    found = events(file)
    tracks = {e["tid"] for e in found if e["name"] == "thread_name" and e["args"]["name"] == chip}
    launched = [e["name"] for e in found if e["tid"] in tracks and "launch" in e["args"]]
    wanted = [n for p in model.programs if isinstance(p, EtnavivProgram) for n in p.launches]
    assert launched == wanted
    assert len(launched) == sum(
        p.statistics["tasks"] for p in model.programs if isinstance(p, EtnavivProgram)
    )
    assert {e["name"] for e in found} >= BEFORE | RUNNING


def test_threads_have_tracks_of_their_own(file: Path) -> None:
    with teflon.load(models.resolve("digits_uint8"), "sim:rk3588") as model:
        threads = [threading.Thread(target=run, args=(model,), name=f"t{n}") for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = events(file)
    assert_complete(found, model, 3)
    names = {e["args"]["name"] for e in found if e["name"] == "thread_name"}
    assert names >= {"t0", "t1", "t2"}


def test_a_trace_grows_until_the_program_ends(file: Path) -> None:
    for count in (1, 2):
        with teflon.load(models.resolve("digits_uint8"), "sim:rk3588") as model:
            run(model)
        assert sum(e["name"] == "inference" for e in events(file)) == count
    stamp = file.stat().st_mtime_ns
    trace.write()
    assert file.stat().st_mtime_ns == stamp, "nothing is new"


SCRIPT = """
import os, sys, teflon, numpy as np
from teflon import trace
from teflon.samples import models
model = teflon.load(models.resolve("digits_uint8"), "cpu")
model.run(*(np.zeros(i.shape, i.dtype) for i in model.inputs))
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
else:
    sys.exit()
with trace.span("the parent went on"):
    pass
"""


def test_a_trace_is_written_at_the_end_and_not_by_forked_children(tmp_path: Path) -> None:
    names = {"TEFLON_DEBUG": "trace", "TEFLON_TRACE": ""}
    subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT], env=os.environ | names, cwd=tmp_path, check=True
    )
    assert [path.name for path in tmp_path.iterdir()] == [trace.DEFAULT]
    found = json.loads((tmp_path / trace.DEFAULT).read_text())["traceEvents"]
    names_of = [e["name"] for e in found]
    assert names_of.count("inference") == 1
    assert names_of[-1] == "the parent went on"


def test_a_trace_that_cannot_be_written_is_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("what was there before")

    def full(path: Path, data: str, *_: object) -> int:
        path.write_bytes(data.encode()[:10])
        raise OSError(28, "No space left on device")

    with trace.span("a"):
        pass
    monkeypatch.setattr(Path, "write_text", full)
    trace.write()
    err = capsys.readouterr().err
    assert err == f"TEFLON_TRACE: {file}: cannot be written, No space left on device\n"
    assert file.read_bytes() == b"what was there before"
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_is_not_there(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEFLON_TRACE", str(file / "no" / "folder.json"))
    with trace.span("a"):
        pass
    trace.write()
    assert capsys.readouterr().err.endswith("cannot be written, No such file or directory\n")


def test_memory_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "MOST_EVENTS", 5)
    for _ in range(9):
        with trace.span("a"):
            pass
    trace.write()
    assert sum(e["name"] == "a" for e in events(file)) == 5
    assert json.loads(file.read_text())["otherData"]["dropped"] == 4


def test_spans_end_where_the_body_fails(file: Path) -> None:
    with pytest.raises(KeyError), trace.span("fails", what=Path("x"), count=3):
        raise KeyError
    trace.write()
    (span,) = [e for e in events(file) if e["name"] == "fails"]
    assert span["args"] == {"what": "x", "count": 3}


def test_the_process_can_be_in_the_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEFLON_TRACE", str(file.parent / "t-%p.json"))
    assert trace.path() == file.parent / f"t-{os.getpid()}.json"


@pytest.mark.parametrize(
    ("start", "length", "good"),
    [(10, 5, True), (10, 11, False), (20, 5, True), (5, 5, False), (0, 10, True)],
)
def test_the_check_of_nesting_finds_overlaps(start: float, length: float, good: bool) -> None:
    first = {"name": "a", "ph": "X", "tid": 1, "ts": 8.0, "dur": 10.0}
    second = {"name": "b", "ph": "X", "tid": 1, "ts": float(start), "dur": float(length)}
    if (start, length) == (0, 10):
        second["tid"] = 2  # another track may overlap
    if good:
        assert_nested([first, second])
    else:
        with pytest.raises(AssertionError):
            assert_nested([first, second])


def test_labels_are_for_one_thread_and_one_body(file: Path) -> None:
    with trace.labels(["one", ""]):
        assert [trace.label(n, f"job {n}") for n in range(3)] == ["one", "job 1", "job 2"]
        with trace.labels(["inner"]):
            assert trace.submitted() == ("inner",)
        assert trace.submitted() == ("one", "")
        heard: list[str] = []
        thread = threading.Thread(target=lambda: heard.append(trace.label(0, "none")))
        thread.start()
        thread.join()
        assert heard == ["none"]
    assert trace.label(0, "none") == "none"


def test_the_picture_shows_every_span(file: Path, tmp_path: Path) -> None:
    with teflon.load(models.resolve("digits_uint8"), "sim:rk3588") as model:
        run(model)
    found = events(file)
    bars, rows = draw_trace.layout(found)
    assert len(bars) == sum(e["ph"] == "X" and e["pid"] == os.getpid() for e in found)
    assert {bar.row for bar in bars} == set(range(len(rows)))
    assert draw_trace.main([str(file), str(tmp_path / "t.png")]) == 0
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    assert draw_trace.main([]) == 2
