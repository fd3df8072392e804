"""float32 results are TFLite's bits, or as near to them as docs/float.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from teflon.errors import ModelError, UnsupportedOperation
from teflon.frontend.tflite.reader import read
from teflon.frontend.tflite.writer import write
from teflon.ir import Array, DType, Graph, Op
from teflon.ir.ops import Opaque
from tests.ir.floats import CASES, PARTS, STEPS, SUMS, excess
from tests.oracle import Oracle, needs_oracle
from tests.paths import MODELS, ROOT, needs_shared

MODELS_AT_LEAST = 12
OPERATIONS_AT_LEAST = 70
MOST_BYTES = 6 << 20


@needs_oracle
@pytest.mark.parametrize("name", CASES)
def test_a_kind_is_within_its_bound(name: str) -> None:
    case = CASES[name]
    graph = case.graph()
    op, oracle = graph.ops[-1], Oracle(write(graph))
    for seed in range(9):
        x = case.input(seed)
        operands = [None if v is None else x if v.data is None else v.data for v in op.operands]
        (have,), (wanted,) = op.evaluate(*operands), oracle.run([x])
        assert excess(op, operands, have, wanted) == ""


def float_operations(graph: Graph) -> Iterator[Op]:
    for op in graph.ops:
        kinds = {v.type.dtype for v in op.results}
        if not isinstance(op, Opaque) and kinds == {DType.FLOAT32}:
            yield op


def operands_of(op: Op, tensors: dict[int, Array]) -> list[Array | None] | None:
    """Return what TFLite gave an operation; None where it did not keep all of it."""
    found: list[Array | None] = []
    for value in op.operands:
        if value is not None and value.data is None and value.index not in tensors:
            return None
        found.append(None if value is None else tensors.get(value.index, value.data))
    return found


def float_models() -> Iterator[tuple[Path, Graph]]:
    assert MODELS is not None
    for path in sorted((MODELS / "public").glob("*.tflite")):
        if path.stat().st_size > MOST_BYTES or path.stem == "keyword_scrambled_8bit":
            continue  # that one damages the process of the runtime: int8 SVDF
        try:
            graph = read(path.read_bytes(), path.stem)
        except ModelError:
            continue
        if next(float_operations(graph), None) is not None:
            yield path, graph


@needs_shared
@needs_oracle
def test_the_operations_of_public_models_are_within_their_bounds() -> None:
    wrong, models, operations = [], 0, 0
    for path, graph in float_models():
        try:
            oracle = Oracle(path, preserve=True)
            oracle.run(oracle.random_inputs(5))
        except (ValueError, RuntimeError):
            continue
        tensors, seen = oracle.tensors(), 0
        for op in float_operations(graph):
            operands = operands_of(op, tensors)
            if operands is None or any(v.index not in tensors for v in op.results):
                continue
            try:
                results = op.evaluate(*operands)
            except UnsupportedOperation:
                continue
            wanted = [tensors[v.index] for v in op.results]
            pairs = zip(results, wanted, strict=True)
            wrong += [f"{path.stem}: {e}" for h, w in pairs if (e := excess(op, operands, h, w))]
            seen += 1
        models, operations = models + (seen > 0), operations + seen
    assert wrong == []
    assert models >= MODELS_AT_LEAST
    assert operations >= OPERATIONS_AT_LEAST


def test_the_page_has_these_bounds() -> None:
    """Each row of the page's table names kinds, and the bound that this test holds."""
    page = (ROOT / "docs" / "float.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", page, re.M)
    said = {kind: bound for kinds, bound in rows for kind in re.findall(r"`(\w+)`", kinds)}
    want = dict.fromkeys(SUMS, "2 n 2⁻²⁴ Σ\\|product\\|".replace("\\|", "·"))
    want |= {kind: f"{steps} steps" for kind, steps in STEPS.items()}
    want |= {kind: f"2⁻{_raised(part)} max(1, ·x·)" for kind, part in PARTS.items()}
    assert {kind: bound.strip() for kind, bound in said.items()} == want


def _raised(part: float) -> str:
    return str(-int(np.log2(part))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
