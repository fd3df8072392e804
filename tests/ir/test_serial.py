"""Graphs as JSON, and the hash of their content."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given

from teflon.ir import Array, Graph, TensorType, Value, serial
from teflon.ir.builder import Builder
from tests.ir.examples import EXAMPLES
from tests.ir.helpers import differences, graphs


def round_trip(graph: Graph) -> Graph:
    kept: list[Array] = []

    def place(value: Value) -> int:
        assert value.data is not None
        kept.append(value.data)
        return len(kept) - 1

    text = json.dumps(serial.encode(graph, place))
    return serial.decode(json.loads(text), lambda number, _kind: kept[number])


@given(graphs())
def test_any_graph_comes_back(graph: Graph) -> None:
    back = round_trip(graph)
    assert differences(graph, back) == []
    assert serial.content(back) == serial.content(graph)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_operation_comes_back(name: str) -> None:
    graph = EXAMPLES[name].graph()
    assert differences(graph, round_trip(graph)) == []


def network(
    weight: int = 3, name: str = "n", stride: int = 1, scale: float = 0.5, bias: int = 4
) -> Graph:
    b = Builder(name)
    x = b.input(f"{name}/x", "u8", (1, 8, 8, 4), scale=scale, zero_point=3)
    weights = np.full((4, 3, 3, 4), 7, np.uint8)
    weights[1, 2, 0, 3] = weight
    b.output(b.conv2d(x, weights, np.full(4, bias, np.int32), stride=stride))
    return b.build()


def test_names_have_no_part_in_the_content() -> None:
    one, other = network(name="one"), network(name="other")
    other = dataclasses.replace(
        other, ops=tuple(dataclasses.replace(op, location="x", index=9) for op in other.ops)
    )
    assert serial.content(one) == serial.content(other)


@pytest.mark.parametrize(
    "change", [{"weight": 4}, {"stride": 2}, {"scale": 0.25}, {"bias": 5}], ids=str
)
def test_all_else_has(change: dict[str, int]) -> None:
    assert serial.content(network(**change)) != serial.content(network())  # type: ignore[arg-type]


def test_where_constants_lie_has_no_part() -> None:
    graph = network()
    moved = {v: dataclasses.replace(v, data=np.asfortranarray(v.data)) for v in graph.constants}
    assert serial.content(graph.with_ops(op.rewired(moved) for op in graph.ops)) == (
        serial.content(graph)
    )


BROKEN: dict[str, Callable[[dict[str, list[object]]], object]] = {
    "operation": lambda p: p["ops"].append(["nothing", {}]),
    "value": lambda p: p["inputs"].append(99),
    "negative": lambda p: p["ops"].append(["relu", {"input": {"value": -1}}]),
    "shape": lambda p: p["values"].append(["v", -1, ["u8", [-4], None], None]),
    "type": lambda p: p["values"].append(["v", -1, ["u99", [4], None], None]),
    "field": lambda p: p["ops"].append(["relu", {"colour": 1}]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_broken_is_refused(kind: str) -> None:
    plain = json.loads(json.dumps(serial.encode(network(), lambda v: 0)))
    BROKEN[kind](plain)

    def fetch(_reference: object, kind: TensorType) -> Array:
        return np.zeros(kind.shape, kind.dtype.numpy)

    with pytest.raises((KeyError, TypeError, ValueError, IndexError)):
        serial.decode(plain, fetch)
