"""The interpreter: order, inputs by position and by value, memory, refusals."""

from __future__ import annotations

import dataclasses
import re
import weakref
from collections.abc import Sequence

import numpy as np
import pytest

from teflon.errors import OptionError
from teflon.ir import Array, DType, Op, TensorType
from teflon.ir.interpreter import run
from tests.contract.helpers import chain, wired

X = np.array([1, 2, 3, 255], np.uint8)


def test_runs_in_order() -> None:
    (y,) = run(chain("a", "b", "c"), [X])
    assert y.tolist() == [4, 5, 6, 2]


def test_inputs_by_value_and_several_outputs() -> None:
    graph = wired(("a", "", "x"), ("b", "", ["a", "x", "a"]), outputs=["b", "a", "b", "x"])
    b, a, again, x = run(graph, {graph.inputs[0]: X})
    assert a.tolist() == [2, 3, 4, 0]
    assert b.tolist() == again.tolist() == [6, 9, 12, 0]
    assert x is X


def test_values_are_freed_after_their_last_use() -> None:
    graph = chain(*"abcd")
    alive: list[weakref.ref[Array]] = []
    counts: list[int] = []

    def watch(op: Op, operands: Sequence[Array | None], results: Sequence[Array]) -> None:
        alive.append(weakref.ref(results[0]))
        counts.append(sum(r() is not None for r in alive))

    run(graph, [X], watch)
    assert counts == [1, 2, 2, 2]


def test_observer_sees_every_operation() -> None:
    graph = wired(("a", "", "x"), ("unused", "", "x"), outputs=["a"])
    seen: list[tuple[str, list[int]]] = []
    run(graph, [X], lambda op, _, results: seen.append((op.where, results[0].tolist())))
    assert seen == [("a", [2, 3, 4, 0]), ("unused", [2, 3, 4, 0])]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "chain: 0 arrays given, must be 1"),
        ([X, X], "chain: 2 arrays given, must be 1"),
        ([X[:3]], "input 'x': is uint8[3], must be uint8[4]"),
        ([X.astype(np.int8)], "input 'x': is int8[4], must be uint8[4]"),
        ([[1, 2, 3, 4]], "input 'x': is a list, must be an array"),
        ({}, "chain: no array for input 'x'"),
    ],
)
def test_wrong_inputs(inputs: list[Array], message: str) -> None:
    with pytest.raises(OptionError, match="^" + re.escape(message) + "$"):
        run(chain("a"), inputs)


def test_constants_are_read() -> None:
    graph = wired(("a", "", "x"), ("b", "", "a"), outputs=["b"])
    a = graph.ops[0].results[0]
    constant = dataclasses.replace(a, type=TensorType(DType.UINT8, (4,)), data=X)
    op = graph.ops[1].rewired({a: constant})
    folded = dataclasses.replace(graph, ops=(op,), outputs=(*op.results, constant))
    b, c = run(folded, [X])
    assert b.tolist() == [2, 3, 4, 0]
    assert c is X
