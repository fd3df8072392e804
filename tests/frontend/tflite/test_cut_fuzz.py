"""Parts of damaged files are cut, or errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from teflon.errors import EncodingError, ModelError
from teflon.frontend.tflite.cut import TfliteOrigin
from teflon.frontend.tflite.reader import read
from teflon.ir import DType, Graph, TensorType, Value
from tests.frontend.tflite.helpers import (
    relu,
)
from tests.frontend.tflite.mutations import BYTES_FREE, BYTES_PER_BYTE, damaged, seeds
from tests.frontend.tflite.parts import composite, conditional, cut, table_model

CASES = 800
ENDS = (
    Value("c", TensorType(DType.BOOL, (1,)), None, 0),
    Value("x", TensorType(DType.FLOAT32, (1, 4)), None, 1),
    Value("z", TensorType(DType.FLOAT32, (1, 4)), None, 3),
)
"""Inputs and outputs of `conditional`."""
BROKEN = [*seeds()[:5], conditional(), composite(), table_model(), relu()]


def _parts(graph: Graph) -> Iterator[Graph]:
    yield graph
    for op in graph.ops[:4]:
        yield graph.subgraph([op])


def test_the_files_can_be_cut_before_they_are_damaged() -> None:
    for data in BROKEN:
        for each in _parts(read(data, "test")):
            cut(each)


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_damaged_files_are_cut_or_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcomes = set()
    for _ in range(CASES):
        data = damaged(rng, BROKEN)
        try:
            graph = read(data, "fuzz")
        except ModelError:
            continue
        for each in _parts(graph):
            try:
                found = cut(each)
                outcomes.add("cut")
                assert len(found.content) < BYTES_PER_BYTE * len(data) + BYTES_FREE
            except (EncodingError, ModelError) as error:
                outcomes.add(str(error)[:40])
    assert "cut" in outcomes


def test_the_changes_do_reach_what_only_the_cutter_checks() -> None:
    rng = np.random.default_rng(99)
    origin_errors = set()
    good = conditional()
    for at in range(0, len(good) - 4, 4):
        data = bytearray(good)
        data[at : at + 4] = rng.integers(0, 256, 4, np.uint8).tobytes()
        origin = TfliteOrigin(bytes(data), "fuzz")
        try:
            origin.cut(Graph("part", ENDS[:2], ENDS[2:], (), origin=origin))
        except (EncodingError, ModelError) as error:
            origin_errors.add(str(error)[:40])
    assert len(origin_errors) > 10
