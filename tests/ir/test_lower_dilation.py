"""Convolutions between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND: dilated ones of the same bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import Graph, ops
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.ir.lower import FoldSpaceToBatch, fold_space_to_batch, remove_dead
from tests.ir.helpers import random_inputs

Pair = tuple[int, int]


def graph_of(
    block: Pair, before: Pair, after: Pair, crops: tuple[Pair, Pair] = ((0, 0), (0, 0)),
    depthwise: bool = False, size: Pair = (8, 6), requantised: bool = False, **how: Any,
) -> Graph:  # fmt: skip
    """Return a graph of the three operations on an int8 image."""
    b, rng = Builder("dilated"), np.random.default_rng(3)
    x = b.input("x", "i8", (1, *size, 4), 0.05, -7)
    shape = (1, 3, 3, 4) if depthwise else (5, 3, 3, 4)
    cut = b.op(ops.SpaceToBatch, input=x, block=block, before=before, after=after)
    add = b.depthwise_conv2d if depthwise else b.conv2d
    kernel = rng.integers(-127, 128, shape, np.int8)
    made = add(cut, kernel, weight_scale=0.01, scale=0.4, zero_point=5, **how)
    if requantised:
        made = b.quantize(made, "i8", scale=0.5, zero_point=0)
    b.output(b.op(ops.BatchToSpace, input=made, block=block, before=crops[0], after=crops[1]))
    return b.build()


def folded(graph: Graph) -> Graph:
    after = remove_dead(fold_space_to_batch(graph)).verify("fold_space_to_batch")
    inputs = random_inputs(graph)
    assert np.array_equal(run(after, inputs)[0], run(graph, inputs)[0])
    return after


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.integers(0, 2), st.integers(0, 2)),
    st.booleans(),
    st.sampled_from(["valid", "same"]),
    st.data(),
)
def test_the_same_bits(
    block: Pair, before: Pair, more: Pair, depthwise: bool, padding: str, data: st.DataObject
) -> None:
    size = (9, 11)
    after = tuple(
        -(n + b) % k + k * m for n, b, k, m in zip(size, before, block, more, strict=True)
    )
    first, last = (tuple(data.draw(st.integers(0, min(n, 2))) for n in s) for s in (before, after))
    graph = graph_of(
        block, before, (after[0], after[1]), ((first[0], first[1]), (last[0], last[1])), depthwise,
        size, padding=padding, activation="relu",
    )  # fmt: skip
    (op,) = folded(graph).ops
    assert isinstance(op, ops.Conv2D | ops.DepthwiseConv2D)
    assert op.dilation == block


def test_what_converters_write() -> None:
    """SAME padding and a dilation of 2 as TensorFlow expresses it."""
    (op,) = folded(graph_of((2, 2), (2, 2), (2, 2), padding="valid")).ops
    assert isinstance(op, ops.Conv2D)
    sides = (op.padding.top, op.padding.bottom, op.padding.left, op.padding.right)
    assert (op.dilation, sides) == ((2, 2), (2, 2, 2, 2))


@pytest.mark.parametrize(
    "graph",
    [
        graph_of((2, 2), (2, 2), (2, 2), padding="valid", stride=(2, 1), size=(12, 10)),
        graph_of((2, 2), (0, 0), (2, 2), ((1, 0), (0, 0)), padding="valid"),
        graph_of((2, 2), (2, 2), (2, 2), padding="valid", requantised=True),
    ],
    ids=["stride", "cut_more_than_added", "another_operation"],
)
def test_what_stays(graph: Graph) -> None:
    assert fold_space_to_batch(graph) is graph


def test_the_device_may_refuse() -> None:
    graph = graph_of((2, 2), (2, 2), (2, 2), padding="valid")
    assert FoldSpaceToBatch(lambda op: False)(graph) is graph
