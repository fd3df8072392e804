"""One order for independent operations, whichever the file has."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from teflon.ir import Graph, Op
from teflon.ir.lower import order_operations, remove_dead
from tests.contract.helpers import wired
from tests.ir.helpers import SAMPLES, graphs, sample


def shuffled(graph: Graph, rng: random.Random) -> Graph:
    """Return the graph in another topological order."""
    left, order = list(graph.ops), list[Op]()
    done = {v for v in graph.values if graph.producer(v) is None}
    while left:
        ready = [op for op in left if done.issuperset(op.inputs_present)]
        op = rng.choice(ready)
        left.remove(op)
        order.append(op)
        done.update(op.results)
    return graph.with_ops(order)


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(SAMPLES)))
def test_any_order_becomes_the_same(rng: random.Random, name: str) -> None:
    graph = sample(name)
    assert order_operations(shuffled(graph, rng)).ops == order_operations(graph).ops


@given(st.randoms(use_true_random=False), graphs())
def test_random_graphs(rng: random.Random, graph: Graph) -> None:
    ordered = order_operations(graph)
    assert set(ordered.ops) == set(graph.ops)
    assert ordered.producers == graph.producers
    assert order_operations(ordered).ops == ordered.ops
    needed = set(remove_dead(graph).ops)
    again = order_operations(shuffled(graph, rng))
    assert [op for op in again.ops if op in needed] == [op for op in ordered.ops if op in needed]


def test_a_branch_ends_before_the_next_begins() -> None:
    graph = wired(("a", "n", "x"), ("b", "n", "x"), ("c", "n", "a"), ("d", "n", "b"),
                  ("e", "n", ["c", "d"]), ("unused", "n", "x"), outputs=["e"])  # fmt: skip
    ordered = order_operations(graph)
    assert [op.results[0].name for op in ordered.ops] == ["a", "c", "b", "d", "e", "unused"]
    assert order_operations(ordered) is ordered
