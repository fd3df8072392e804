"""Public models: each operation bit for bit as the oracle's; passes that change no bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import choose
from teflon.errors import ModelError
from teflon.frontend.tflite.reader import read
from teflon.ir import Graph, ops
from teflon.ir.interpreter import run
from teflon.ir.lower import (
    fold_pad,
    fold_space_to_batch,
    fold_tables,
    fuse_activations,
    remove_dead,
)
from teflon.ir.passes import run_pipeline
from tests.ir.helpers import random_inputs
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, needs_shared
from tests.whole.test_models_op_by_op import differing

pytestmark = needs_shared

PASSES = (fold_space_to_batch, fold_pad, fuse_activations, fold_tables, remove_dead)
LEAST = 12
"""Models that must have been looked at."""


def whole() -> Iterator[tuple[Path, Graph]]:
    """Yield the 8-bit models without state whose operations the IR has, all of them."""
    assert MODELS is not None
    for path in sorted((MODELS / "public").glob("*.tflite")):
        try:
            graph = read(path.read_bytes(), path.stem)
        except ModelError:
            continue
        if graph.states:  # an oracle that preserves all tensors ends the process
            continue
        if not choose.reason(graph) and not any(isinstance(op, ops.Opaque) for op in graph.ops):
            yield path, graph


@needs_oracle
def test_each_operation_is_the_oracles() -> None:
    wrong: dict[str, int] = {}
    seen = 0
    for path, graph in whole():
        try:
            oracle = Oracle(path, preserve=True)
        except ValueError:  # made for microcontrollers: this oracle refuses a bias' axis
            continue
        oracle.run(oracle.random_inputs(1))
        tensors = oracle.tensors()
        seen += 1
        for op in graph.ops:
            if count := differing("public models", op, tensors):
                wrong[f"{path.stem}: {op.title}"] = count
    assert seen >= LEAST
    assert wrong == {}


def test_passes_change_no_bit() -> None:
    seen, changed = 0, 0
    for path, graph in whole():
        after = run_pipeline(graph, PASSES)
        inputs = random_inputs(graph)
        for have, want in zip(run(after, inputs), run(graph, inputs), strict=True):
            assert np.array_equal(have, want), path.stem
        seen += 1
        changed += after is not graph
    assert seen >= LEAST
    assert changed >= 3
