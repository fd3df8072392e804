"""Streaming wake words keep state: a hundred frames in sequence, as TFLite computes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from teflon.compile.source import read_graph
from teflon.ir import Graph, Value, ops
from teflon.ir.types import Array
from teflon.run.cores import Pool
from teflon.run.load import load
from teflon.run.runner import Outputs, Runner
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared

pytestmark = [needs_shared, needs_oracle]

FRAMES = 100
NAMES = ("hey_jarvis", "alexa", "vad")
STREAMS = 3


def path_of(name: str) -> Path:
    assert MODELS is not None
    return MODELS / "public" / f"{name}.tflite"


def frames(oracle: Oracle, seed: int, count: int = FRAMES) -> list[Array]:
    """Return spectrogram slices that wander, as those of sound do."""
    shape, rng = oracle.inputs[0]["shape"], np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 12, (count, *shape)), axis=0)
    return list(np.clip(walk, -128, 127).astype(np.int8))


def logits(graph: Graph) -> Value:
    """Return what the sigmoid at the end gets: its own result is 0 for almost every frame."""
    (last,) = (op for op in graph.ops if isinstance(op, ops.Logistic))
    return last.input


@cache
def graph_of(name: str) -> Graph:
    """Return a model whose outputs are the logits, then what it has itself."""
    graph = read_graph(path_of(name))
    seen = logits(graph)
    return replace(
        graph, outputs=(seen, *graph.outputs), output_names=("logits", *graph.output_names)
    ).verify()


@cache
def wanted(name: str, seed: int, count: int = FRAMES) -> tuple[list[Array], list[list[Array]]]:
    """Return frames, and TFLite's logits and answer for each."""
    oracle, number = Oracle(path_of(name), preserve=True), logits(graph_of(name)).index
    given, found = frames(oracle, seed, count), []
    for frame in given:
        answer = oracle.run([frame])[0].copy()
        found.append([oracle.tensor(number).copy(), answer])
    assert len({row[0].tobytes() for row in found}) >= 10, "logits must differ"
    return given, found


def largest(model: Runner, name: str, seed: int, count: int = FRAMES) -> int:
    """Return the largest difference from TFLite over frames in sequence, in steps."""
    given, want = wanted(name, seed, count)
    pairs = [(model.run(frame), row) for frame, row in zip(given, want, strict=True)]
    return max(differing(have, row) for have, row in pairs)


def differing(have: Sequence[Array], want: Sequence[Array]) -> int:
    return max(
        int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in zip(have, want, strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_hundred_frames_on_the_reference(name: str) -> None:
    with load(graph_of(name), "cpu", options={"cache": "off"}) as model:
        for _ in range(2):
            assert largest(model, name, 1) == 0
            model.reset_state()
        model.run(wanted(name, 1)[0][-1])
        assert largest(model, name, 1) > 0, "without a reset the state would show"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("device", ["sim:rk3588", "sim:a311d", "sim:s905d3", "sim:imx8mp"])
def test_frames_on_simulated_npus(name: str, device: str) -> None:
    """All multiplications are the NPU's, and their single steps do not add up over the frames."""
    with load(graph_of(name), device, options={"cache": "off"}) as model:
        totals = model.report().as_dict()["totals"]["macs"]
        assert totals.get("cpu", 0) == 0
        assert sum(totals.values()) > 0
        assert largest(model, name, 2) <= BOUND[device]


BOUND = {"sim:rk3588": 3, "sim:a311d": 4, "sim:s905d3": 4, "sim:imx8mp": 4}
"""Steps of the logits, whose range is 256."""


@pytest.mark.parametrize("name", NAMES)
def test_three_streams_in_a_pool(name: str) -> None:
    """Each stream has a state of its own, whichever core computes its next frame."""
    given = [wanted(name, seed)[0] for seed in range(STREAMS)]
    with load(graph_of(name), "sim:rk3588", cores=3, options={"cache": "off"}) as pool:
        assert isinstance(pool, Pool)
        mixed: list[list[Outputs]] = [[] for _ in range(STREAMS)]
        futures = [
            (s, pool.submit(given[s][n], stream=s)) for n in range(FRAMES) for s in range(STREAMS)
        ]
        for s, future in futures:
            mixed[s].append(future.result())
    with load(graph_of(name), "sim:rk3588", options={"cache": "off"}) as alone:
        for s in range(STREAMS):
            alone.reset_state()
            for frame, have in zip(given[s], mixed[s], strict=True):
                assert differing(list(have.values()), alone.run(frame)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_three_streams_on_the_reference(name: str) -> None:
    with load(graph_of(name), "cpu", options={"cache": "off"}) as model:
        rows = [wanted(name, seed) for seed in range(STREAMS)]
        found = [
            (s, n, model.submit(rows[s][0][n], stream=s))
            for n in range(FRAMES)
            for s in range(STREAMS)
        ]
        for s, n, future in found:
            assert differing(list(future.result().values()), rows[s][1][n]) == 0
