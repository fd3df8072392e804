"""Parts of real files compute what they compute within the file."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from teflon.errors import TeflonError
from teflon.frontend.tflite import schema
from teflon.frontend.tflite.copying import SUBGRAPHS
from teflon.frontend.tflite.reader import read
from teflon.ir import Array, Graph
from tests.frontend.tflite.parts import cut, run
from tests.oracle import AVAILABLE, Oracle, needs_oracle
from tests.paths import GOLDEN, MODELS, needs_shared

CRASHING = ("blockwise_quantized", "keyword_scrambled_8bit")
"""Files on which the runtime ends its process."""


def _files() -> list[Path]:
    found = [*MODELS.rglob("*.tflite")] if MODELS else []
    found += GOLDEN.rglob("*.tflite") if GOLDEN else []
    return sorted(f for f in found if f.stem not in CRASHING and f.parent.name != "odd")


FILES = _files()
BATCHES = [FILES[n::16] for n in range(16)]


def opened(path: Path) -> tuple[Graph, Oracle, list[Array]] | None:
    """Return what is needed to compare; None where reader or runtime refuse the file."""
    try:
        graph = read(path.read_bytes(), path.name)
        oracle = Oracle(path, preserve=True)
        inputs = oracle.random_inputs()
        oracle.run(inputs)
    except (TeflonError, ValueError, RuntimeError):
        return None
    return graph, oracle, inputs


def check_part(part: Graph, known: dict[int, Array]) -> bool:
    """Compare a part with the tensors of the whole; False where the file's shapes are not true."""
    inputs = [known.get(v.index) for v in part.inputs]
    wanted = [known.get(v.index) for v in part.outputs]
    ends = zip((*part.inputs, *part.outputs), (*inputs, *wanted), strict=True)
    if any(a is None or a.shape != v.shape for v, a in ends):
        return False
    results = run(cut(part), [a for a in inputs if a is not None])
    for value, found, want in zip(part.outputs, results, wanted, strict=True):
        assert want is not None
        assert found.tobytes() == want.tobytes(), value.name
    return True


@needs_shared
@needs_oracle
@pytest.mark.parametrize("batch", range(16))
def test_whole_files(batch: int) -> None:
    compared = 0
    for path in BATCHES[batch]:
        found = opened(path)
        if found is None:
            continue
        graph, oracle, inputs = found
        inputs += [state.initial for state in graph.states]
        users = graph.outputs[: len(graph.outputs) - len(graph.states)]
        wanted = [oracle.tensor(v.index) for v in users]
        results = run(cut(graph), inputs)[: len(users)]
        for got, want in zip(results, wanted, strict=True):
            assert got.tobytes() == want.tobytes(), path.name
        compared += 1
    assert compared > len(BATCHES[batch]) // 2


@needs_shared
@needs_oracle
@pytest.mark.parametrize("batch", range(16))
def test_single_operations_and_random_parts(batch: int) -> None:
    rng = np.random.default_rng(batch)
    compared = total = 0
    for path in BATCHES[batch]:
        found = opened(path)
        if found is None or found[0].states:  # what is left of a state is not what it was
            continue
        graph, known = found[0], found[1].tensors()
        parts = [graph.subgraph([op]) for op in graph.ops]
        for _ in range(4):
            start, end = sorted(rng.integers(0, len(graph.ops) + 1, 2))
            parts.append(graph.subgraph(graph.ops[start:end]))
        total += len(parts)
        compared += sum(check_part(part, known) for part in parts)
    assert compared > 0.9 * total


@needs_oracle
@pytest.mark.skipif(not AVAILABLE, reason="no TFLite runtime")
def test_the_schema_is_the_runtimes() -> None:
    """A field that the schema lacks would be lost in a copy."""
    source = inspect.getsource(importlib.import_module("ai_edge_litert.schema_py_generated"))
    starts = re.findall(r"def (\w+)Start\(builder\):\s*builder\.StartObject\((\d+)\)", source)
    counts = {name: int(count) for name, count in starts}
    ours = {*schema.TABLES, *schema.EMPTY_TABLES}
    assert len(ours) > 150
    assert {name: schema.slot_count(name) for name in ours} == {name: counts[name] for name in ours}
    pattern = (
        r"def (\w+?)Add\w+\(builder, \w+\):\s*"
        r"builder\.Prepend\w+?Slot\((\d+), [^\n]*?, ([^,\n]+)\)\n"
    )
    defaults = {(t, int(slot)): value for t, slot, value in re.findall(pattern, source)}
    checked = 0
    for name in ours:
        for field in schema.fields(name).values():
            if field.kind in schema.SCALARS:
                told = defaults[name, field.slot]
                value = {"True": 1.0, "False": 0.0}.get(told)
                assert field.default == (float(told) if value is None else value), (name, field)
                checked += 1
    assert checked > 200


def test_every_number_of_a_subgraph_is_followed() -> None:
    named = {
        (name, field)
        for name in schema.TABLES
        if name.endswith("Options")
        for field in schema.fields(name)
        if "subgraph" in field or field == "called_computations"
    }
    assert named == {(name, field) for name, fields in SUBGRAPHS.items() for field in fields}
