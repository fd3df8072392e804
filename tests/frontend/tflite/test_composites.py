"""Composites are read as what they consist of, wherever that runs."""

from __future__ import annotations

import numpy as np
import pytest

from teflon.frontend.tflite.emit import table
from teflon.frontend.tflite.reader import read
from teflon.ir import Graph
from teflon.ir.ops import Add, Opaque, Relu
from tests.frontend.tflite.helpers import message, operator
from tests.frontend.tflite.runtime import Mixed, interpreter, invoke, random_inputs
from tests.frontend.tflite.structures import (
    ANGLE,
    SUM,
    WHILE,
    add,
    composite,
    file,
    subgraph,
    twice,
)
from tests.oracle import needs_oracle

pytestmark = needs_oracle


def agrees(data: bytes) -> Graph:
    """Compare with LiteRT, what stays opaque cut out of the file; return the graph."""
    graph = read(data, "composite")
    inputs = random_inputs(graph, np.random.default_rng(2))
    there = interpreter(data)
    numbers = [d["index"] for d in there.get_output_details()]
    wanted = invoke(there, dict(enumerate(inputs)), numbers)
    for have, want in zip(Mixed(graph)(*inputs), wanted, strict=True):
        np.testing.assert_array_equal(have, want)
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind_name for op in graph.ops]


def test_the_decomposition_stands_in_its_place() -> None:
    graph = agrees(file(3, [2], [composite([0, 1], [2], 1)], SUM))
    assert [type(op) for op in graph.ops] == [Add, Relu]
    assert [op.index for op in graph.ops] == [1, 2]
    assert [v.index for op in graph.ops for v in (*op.operands, *op.results) if v] == [
        0, 1, 5, 5, 2,
    ]  # fmt: skip
    assert graph.outputs[0].name == "t2"


def test_what_stays_opaque_inside_is_cut_out_of_the_file() -> None:
    graph = agrees(file(3, [2], [composite([0, 1], [2], 1)], ANGLE))
    assert kinds(graph) == ["ATAN2", "RELU"]


def test_several_composites_may_consist_of_one_subgraph() -> None:
    operators = [composite([0, 1], [2], 1), composite([2, 0], [3], 1), composite([3, 2], [4], 1)]
    for inner in (SUM, ANGLE):
        graph = agrees(file(5, [4, 3], operators, inner))
        assert len(graph.ops) == 6
        assert len({op.index for op in graph.ops}) == 6
        made = [v.index for op in graph.ops for v in op.results]
        assert len(set(made)) == 6


def test_composites_inside_composites() -> None:
    outer = subgraph(5, [0, 1], [4], composite([0, 1], [2], 2), add(2, 0, 3),
                     composite([3, 2], [4], 2))  # fmt: skip
    graph = agrees(file(3, [2], [composite([1, 0], [2], 1)], outer, ANGLE))
    assert kinds(graph) == ["ATAN2", "RELU", "ADD", "ATAN2", "RELU"]


def test_results_that_are_operands_or_given_twice() -> None:
    """LiteRT 2.3 leaves such results as they are in its memory; these are what is meant."""
    through = subgraph(3, [0, 1], [1, 2, 2, 0], add(0, 1, 2))
    graph = read(file(6, [2, 3, 4, 5], [composite([0, 1], [2, 3, 4, 5], 1)], through))
    assert kinds(graph) == ["ADD"]
    a, b = random_inputs(graph, np.random.default_rng(2))
    for have, want in zip(Mixed(graph)(a, b), (b, a + b, a + b, a), strict=True):
        np.testing.assert_array_equal(have, want)


def test_a_composite_with_other_ends_than_its_decomposition_is_left_to_the_runtime() -> None:
    graph = read(file(3, [2], [composite([0], [2], 1)], SUM))
    assert kinds(graph) == ["STABLEHLO_COMPOSITE"]
    assert isinstance(graph.ops[0], Opaque)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_subgraphs_that_call_each_other_in_a_circle_are_refused(length: int) -> None:
    inner = [
        subgraph(3, [0, 1], [2], composite([0, 1], [2], n % length + 1))
        for n in range(1, length + 1)
    ]
    text = message(file(3, [2], [composite([0, 1], [2], 1)], *inner))
    assert text.endswith(": calls itself by way of its operators, must not")


def test_a_loop_that_runs_itself_is_refused() -> None:
    options = table("WhileOptions", cond_subgraph_index=1, body_subgraph_index=2)
    loop = operator([0, 1], [2, 3], WHILE, builtin_options=options)
    inner = subgraph(4, [0, 1], [2, 3], loop)
    text = message(file(4, [2, 3], [loop], SUM, inner))
    assert text == "bad.tflite: subgraphs[2]: calls itself by way of its operators, must not"


def test_a_long_chain_of_composites_is_no_trouble() -> None:
    count = 200
    chain = [
        subgraph(3, [0, 1], [2], composite([0, 1], [2], n + 1)) for n in range(1, count)
    ]  # fmt: skip
    graph = read(file(3, [2], [composite([0, 1], [2], 1)], *chain, SUM))
    assert kinds(graph) == ["STABLEHLO_COMPOSITE"]


def test_a_decomposition_that_grows_like_a_power_is_refused() -> None:
    """Each of 30 subgraphs is two of the next."""

    data = file(3, [2], [composite([0, 1], [2], 1)], *(twice(n) for n in range(2, 32)), SUM)
    assert "must use each about once" in message(data)


def test_a_subgraph_that_is_not_there() -> None:
    text = message(file(3, [2], [composite([0, 1], [2], 7)], SUM))
    assert text == (
        "bad.tflite: subgraphs[0]/operators[0]: STABLEHLO_COMPOSITE calls subgraph 7, must be below"
        " 2, the number of subgraphs"
    )
