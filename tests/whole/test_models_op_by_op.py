"""Whole models: every operation fed with the oracle's tensors must yield the oracle's results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from teflon.compile.source import read_graph
from teflon.frontend.tflite.reader import read
from teflon.ir import Op, Value, ops
from teflon.ir.types import Array
from tests.counts import compare
from tests.oracle import Oracle, needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

pytestmark = [needs_shared, needs_oracle]

WHOLE = sorted(MODELS.glob("*.tflite")) if MODELS else [Path("none")]
SINGLE = sorted((GOLDEN / "models").glob("*.tflite")) if GOLDEN else [Path("none")]


def operand(value: Value | None, tensors: dict[int, Array]) -> Array | None:
    if value is None or value.data is not None:
        return None if value is None else value.data
    return tensors[value.index]


def differing(name: str, op: Op, tensors: dict[int, Array]) -> int:
    """Return in how many elements an operation's results differ from the oracle's."""
    results = op.evaluate(*(operand(v, tensors) for v in op.operands))
    wants = [tensors[v.index] for v in op.results]
    if isinstance(op, ops.DetectionPostProcess):  # behind the count lies old memory
        count = int(wants[3][0])
        results = (*(r[:, :count] for r in results[:3]), results[3])
        wants = [*(w[:, :count] for w in wants[:3]), wants[3]]
    name = f"{name} {op.tflite_name.removeprefix('TFLite_')}"
    return sum(compare(name, have, want) for have, want in zip(results, wants, strict=True))


def check_model(path: Path, name: str, seed: int) -> None:
    data = path.read_bytes()
    graph = read(data, path.stem)
    oracle = Oracle(data, preserve=True)
    oracle.run(oracle.random_inputs(seed))
    tensors = oracle.tensors()
    wrong = {op.title: n for op in graph.ops if (n := differing(name, op, tensors))}
    assert not wrong


@pytest.mark.parametrize("path", WHOLE, ids=lambda p: p.stem)
def test_whole_models(path: Path) -> None:
    check_model(path, path.stem.split("_")[0], seed=1)


@pytest.mark.parametrize("path", SINGLE, ids=lambda p: p.stem)
def test_models_of_one_operation(path: Path) -> None:
    check_model(path, "small models", seed=2)


def test_macs_of_mobilenet() -> None:
    assert MODELS is not None
    graph = read_graph(MODELS / "mobilenet_v1_1.0_224_quant.tflite")
    # The published 569 million, with 1001 classes.
    assert sum(op.macs for op in graph.ops) == 568_741_376


def test_a_photo_like_input_is_not_all_one_value() -> None:
    """Guards the comparison itself: results of random inputs vary."""
    assert MODELS is not None
    oracle = Oracle(MODELS / "mobilenet_v1_1.0_224_quant.tflite", preserve=True)
    oracle.run(oracle.random_inputs(1))
    assert np.unique(oracle.tensors()[0]).size > 5
