"""State that the runtime holds: each stream its own session, begun anew by a reset."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import teflon
from teflon.cli import main
from teflon.compile.source import read_graph
from teflon.errors import DeviceError
from teflon.inspect.compare import compare
from teflon.ir import Array
from teflon.plugins import discover
from teflon.run.cores import Pool
from teflon.run.model import Model
from teflon.run.runner import Runner
from teflon_common.hosted import sessions
from teflon_common.hosted.device import HostedDevice
from tests.frontend.tflite.structures import (
    branch_with_state,
    composites_with_state,
    loop_with_state,
    loop_with_variable,
)
from tests.oracle import Oracle, needs_oracle

pytestmark = needs_oracle

ZERO, ROW = np.zeros((), np.float32), np.zeros(1, np.int32)
FRAMES = [np.array(n, np.float32) for n in (0, 2.5, -4, 0, 1, 0.5, -9, 0)]
WAYS: list[tuple[str, dict[str, Any]]] = [
    ("cpu", {}), ("cpu", {"cpu": "tflite"}), ("tflite", {}), ("sim:rk3588", {}),
    ("sim:rk3588", {"cores": 3}), ("sim:rk3588", {"cores": 3, "mode": "latency"}),
    ("sim:a311d", {"cpu": "tflite", "threads": 2}),
]  # fmt: skip


def wanted(frames: Sequence[Array] = FRAMES) -> list[float]:
    """Return what LiteRT makes of frames in sequence."""
    oracle = Oracle(loop_with_variable())
    return [float(oracle.run([frame])[0]) for frame in frames]


def values(model: Runner, frames: Sequence[Array] = FRAMES, stream: Any = None) -> list[float]:
    futures = [model.submit(frame, stream=stream) for frame in frames]
    return [float(future.result()["y"]) for future in futures]


@pytest.fixture
def model() -> Iterator[Runner]:
    with teflon.load(loop_with_variable(), "cpu", cache="off") as made:
        yield made


@pytest.mark.parametrize(("device", "options"), WAYS, ids=str)
def test_frames_in_sequence_resets_and_streams(device: str, options: dict[str, Any]) -> None:
    assert len(set(wanted([ZERO] * 3))) > 1, "the state must show"
    with teflon.load(loop_with_variable(), device, cache="off", **options) as model:
        assert [float(model(x)["y"]) for x in FRAMES] == wanted()
        assert values(model) == wanted([*FRAMES, *FRAMES])[len(FRAMES) :]
        assert values(model, stream="b") == wanted()
        model.reset_state()
        assert values(model) == wanted()
        assert values(model, stream="b") == wanted()
        model.reset_state("b")
        assert values(model, stream="b") == wanted()
        assert values(model) == wanted([*FRAMES, *FRAMES])[len(FRAMES) :]


def test_streams_that_take_turns_in_a_pool() -> None:
    rng = np.random.default_rng(0)
    given = [[np.array(n, np.float32) for n in rng.integers(-5, 3, 20)] for _ in range(4)]
    with teflon.load(loop_with_variable(), "sim:rk3588", cores=3, cache="off") as pool:
        assert isinstance(pool, Pool)
        futures = [
            (s, pool.submit(given[s][n], stream=s)) for n in range(20) for s in range(len(given))
        ]
        found: list[list[float]] = [[] for _ in given]
        for s, future in futures:
            found[s].append(float(future.result()["y"]))
    assert found == [wanted(frames) for frames in given]


def test_a_warm_load_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Any:
        raise AssertionError("must come from the cache")

    for warm in (False, True):
        if warm:
            monkeypatch.setattr(HostedDevice, "compile", never)
        with teflon.load(loop_with_variable(), "sim:rk3588", cache=str(tmp_path)) as model:
            assert values(model) == wanted()
            assert values(model, stream="b") == wanted()
            model.reset_state()
            assert values(model) == wanted()


def test_a_compiled_file(tmp_path: Path) -> None:
    file, out = tmp_path / "loop.tflite", tmp_path / "loop.teflon"
    file.write_bytes(loop_with_variable())
    assert main(["compile", str(file), "--device", "tflite", "-o", str(out)]) == 0
    file.unlink()
    with teflon.load(out, "tflite") as model:
        assert values(model) == wanted()
        assert values(model, stream="b") == wanted()
        model.reset_state()
        assert values(model) == wanted()


def test_commands_take_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "loop.tflite"
    file.write_bytes(loop_with_variable())
    for command in ("check", "dump", "compare", "run", "estimate", "bench"):
        device = "rk3588" if command in ("check", "estimate") else "sim:rk3588"
        assert main([command, str(file), "--device", device]) == 0, capsys.readouterr().err
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("device", ["cpu", "tflite", "sim:rk3588"])
def test_comparing_begins_anew(device: str) -> None:
    graph = read_graph(loop_with_variable())
    assert {compare(graph, [ZERO], device, cache="off").worst for _ in range(2)} == {0}


def test_a_program_says_what_the_runtime_holds() -> None:
    device = discover().drivers["tflite"].device("tflite")
    text = device.describe(device.compile(read_graph(loop_with_variable())))
    assert "input 'MODEL keeps': held by the runtime" in text
    assert "output 'MODEL keeps/new': held by the runtime" in text


# Failures ----------------------------------------------------------------------------------------


def test_after_a_failure_in_the_runtime_the_stream_begins_anew() -> None:
    data = loop_with_variable(checked=True)
    first = [float(y) for y in wanted([ZERO] * 3)]
    with teflon.load(data, "cpu", cache="off") as model:
        assert [float(model(ZERO, ROW)["z"][0]) for _ in range(2)] == first[:2]
        assert float(model.submit(ZERO, ROW, stream="b").result()["z"][0]) == first[0]
        for _ in range(2):
            with pytest.raises(DeviceError, match="gather index out of bounds"):
                model(ZERO, ROW + 9)
        assert [float(model(ZERO, ROW)["z"][0]) for _ in range(3)] == first
        assert float(model.submit(ZERO, ROW, stream="b").result()["z"][0]) == first[1]


def test_after_a_failure_behind_the_runtime_the_stream_begins_anew(
    model: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runtime has gone on by then, whatever fails after it."""
    assert values(model) == wanted()
    invoke = Model._invoke

    def fail(*arguments: Any) -> Any:
        invoke(*arguments)
        raise DeviceError("a later partition fails")

    with monkeypatch.context() as broken:
        broken.setattr(Model, "_invoke", fail)
        with pytest.raises(DeviceError, match="a later partition fails"):
            model(ZERO)
    assert values(model) == wanted()


def test_what_failed_before_the_runtime_began_changes_nothing() -> None:
    device = discover().drivers["tflite"].device("tflite")
    context = discover().drivers["tflite"].simulate("tflite")
    graph = read_graph(loop_with_variable())
    first, second, third = wanted([ZERO] * 3)
    with context:
        loaded = context.load(device.compile(graph))
        y, kept = context.invoke(loaded, graph.with_initial([ZERO]))
        assert float(y) == first
        with pytest.raises(DeviceError, match=r"input 'x' is float64\[\], must be float32\[\]$"):
            context.invoke(loaded, [np.zeros(()), kept])
        y, again = context.invoke(loaded, [ZERO, kept])
        assert float(y) == second
        y, _ = context.invoke(loaded, [ZERO, kept])
        assert float(y) == first, "the runtime cannot go back: it begins anew"
        y, _ = context.invoke(loaded, [ZERO, again])
        assert float(y) == third


def test_states_of_others_are_refused() -> None:
    device = discover().drivers["tflite"].device("tflite")
    graph = read_graph(loop_with_variable())
    with discover().drivers["tflite"].simulate("tflite") as context:
        one, other = (context.load(device.compile(graph)) for _ in range(2))
        _, kept = context.invoke(one, graph.with_initial([ZERO]))
        for wrong in (kept, np.ones(1, np.uint8)):
            with pytest.raises(DeviceError, match=r"MODEL 'y': a state is not this program's"):
                context.invoke(other, [ZERO, wrong])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_cannot_take_the_state_over_but_begin_anew(model: Runner) -> None:
    model(ZERO)
    pid = os.fork()
    if pid == 0:
        try:
            model(ZERO)
        except DeviceError as error:
            model.reset_state()
            good = "begin anew here (reset_state)" in str(error)
            os._exit(0 if good and float(model(ZERO)["y"]) == wanted([ZERO])[0] else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert float(model(ZERO)["y"]) == wanted([ZERO] * 2)[1]


# Memory ------------------------------------------------------------------------------------------


def test_sessions_are_freed_with_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[weakref.ref[Any]] = []
    begin = sessions.Opened.__post_init__

    def noted(self: sessions.Opened) -> None:
        begin(self)
        opened.append(weakref.ref(self.session))

    def alive() -> int:
        gc.collect()
        return sum(ref() is not None for ref in opened)

    monkeypatch.setattr(sessions.Opened, "__post_init__", noted)
    with teflon.load(loop_with_variable(), "cpu", cache="off") as model:
        for stream in range(5):
            values(model, stream=stream)
        before = alive()
        model.reset_state(0, 1)
        assert alive() == before - 2
        model.reset_state()
        assert alive() <= before - 5
        values(model)
    assert alive() == 0


# Variable tensors of called subgraphs ------------------------------------------------------------

PAIRS = [*np.random.default_rng(0).standard_normal((5, 1, 2)).astype(np.float32)]
CHOICES = [np.array(n) for n in (True, True, False, True, True)]


@pytest.mark.parametrize(
    ("data", "inputs"),
    [
        (branch_with_state(), list(zip(CHOICES, PAIRS, strict=True))),
        (loop_with_state(), [(ZERO, x) for x in PAIRS]),
        (composites_with_state(1), [(x,) for x in PAIRS]),
        (composites_with_state(2), [(x,) for x in PAIRS]),
    ],
    ids=["branch", "loop", "composite", "composites"],
)
def test_they_last_as_long_as_litert_lets_them(data: bytes, inputs: Any) -> None:
    """Until the runtime leaves the subgraph: no stream sees what another left there."""
    oracle = Oracle(data)
    want = [oracle.run(row) for row in inputs]
    with teflon.load(data, "sim:rk3588", cores=2, cache="off") as model:
        for stream in ("a", "b"):
            for row, theirs in zip(inputs, want, strict=True):
                mine = model.submit(*row, stream=stream).result()
                for have, expected in zip(mine.values(), theirs, strict=True):
                    np.testing.assert_allclose(have, expected, rtol=1e-6, atol=1e-7)


def test_a_failure_in_a_branch_leaves_nothing_there() -> None:
    data, yes = branch_with_state(checked=True), np.array(True)
    with teflon.load(data, "cpu", cache="off") as model:
        (first,) = model.run(yes, PAIRS[0], ROW)
        with pytest.raises(DeviceError, match="gather index out of bounds"):
            model.run(yes, PAIRS[1], ROW + 9)
        assert model.run(yes, PAIRS[0], ROW)[0].tobytes() == first.tobytes()
