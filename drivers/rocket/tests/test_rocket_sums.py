"""A convolution that does the addition behind it is within a step of the reference of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array, DType, TensorType
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.rules.additions import sums
from tests.rocket.grid import ACTIVATIONS, DEVICE, convolved, open_simulator, random_inputs

Random = np.random.Generator


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def network(random: Random, finer: float = 1.0, depth: int = 24) -> Graph:
    """A convolution and an addition; finer: how much smaller the steps of the sum are than those of
    the convolution's result.
    """
    b, dtype = Builder("sum"), str(random.choice(["u8", "i8"]))
    zeros = [int(z) for z in random.integers(0, 128, 3)]
    x = b.input("x", dtype, (1, 6, 7, depth), scale=0.05, zero_point=zeros[0])
    step = float(np.exp(random.uniform(-5, 1)))
    other = b.input("z", dtype, (1, 6, 7, 20), scale=step, zero_point=zeros[1])
    shape, limit = (20, 3, 3, depth), str(random.choice(ACTIVATIONS))
    y = convolved(b, random, x, shape, False, padding="same", activation=limit)
    limit = str(random.choice(ACTIVATIONS))
    scale = y.type.scale / finer
    b.output(b.add(y, other, scale=scale, zero_point=zeros[2], activation=limit))
    return b.build()


def distance(context: RocketContext, graph: Graph, random: Random) -> int:
    """The greatest difference of the device's result from that of both references in a row."""
    inputs = random_inputs(random, graph)
    with closing(context.load(DEVICE.compile(graph))) as loaded:
        have = context.invoke(loaded, inputs)[0]
    known: dict[Value, Array | None] = dict(zip(graph.inputs, inputs, strict=True))
    for op in graph.ops:
        operands = [None if v is None else known.get(v, v.data) for v in op.operands]
        known[op.results[0]] = op.evaluate(*operands)[0]
    want = known[graph.outputs[0]]
    assert want is not None
    return int(np.abs(have.astype(int) - want.astype(int)).max())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.3, 2))
def test_within_a_step(context: RocketContext, seed: int, finer: float) -> None:
    random = np.random.default_rng(seed)
    graph = network(random, finer)
    assume(sums(graph))
    assert distance(context, graph, random) <= 1


def test_a_pass_adds_where_half_a_step_is_too_much() -> None:
    assert sums(network(np.random.default_rng(5), finer=1.5))
    assert not sums(network(np.random.default_rng(5), finer=2.2))


def test_kernels_of_many_bytes_do_not_add() -> None:
    """They are cut into parts."""
    assert sums(network(np.random.default_rng(5), depth=341))
    assert not sums(network(np.random.default_rng(5), depth=342))


def test_biases_near_the_limit_are_added_to_by_a_pass() -> None:
    graph = network(np.random.default_rng(5))
    convolution, addition = graph.ops
    bias = Value("bias", TensorType(DType.INT32, (20,)), np.full(20, 2**28, np.int32))
    large = dataclasses.replace(convolution, bias=bias)  # type: ignore[call-arg]
    assert sums(graph)
    assert not sums(Graph(graph.name, graph.inputs, graph.outputs, (large, addition)))


def test_operand_scales_far_apart(context: RocketContext) -> None:
    """What converters write for relu6(x + conv): 600 times the scale of the other operand."""
    random = np.random.default_rng(8)
    b = Builder("far")
    x = b.input("x", "i8", (1, 5, 5, 16), scale=0.02, zero_point=-128)
    weights = random.integers(-127, 128, (16, 1, 1, 16)).astype(np.int8)
    scale = float(np.float32(0.02 * 600))
    y = b.conv2d(x, weights, None, weight_scale=0.05, scale=scale, zero_point=3)
    b.output(b.add(x, y, scale=6 / 255, zero_point=-128, activation="relu6"))
    graph = b.build()
    assert [r for op in graph.ops for r in DEVICE.unsupported(op, graph)] == []
    inputs = random_inputs(random, graph)
    with closing(context.load(DEVICE.compile(graph))) as loaded:
        have = context.invoke(loaded, inputs)[0].astype(int)
    first = graph.ops[0].evaluate(inputs[0], weights, None)[0]
    apart = {
        d: graph.ops[1].evaluate(
            inputs[0], np.clip(first.astype(int) + d, -128, 127).astype(np.int8)
        )[0]
        for d in (-1, 0, 1)
    }
    near = [np.abs(have - made.astype(int)) for made in apart.values()]
    assert np.minimum.reduce(near).max() <= 1
