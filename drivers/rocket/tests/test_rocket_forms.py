"""Transposed convolutions, long strides, groups, large accumulator units: against the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir.builder import Builder
from teflon.ir.graph import Graph
from teflon_rocket.chips import RK3588
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.lower import lower
from teflon_rocket.operations.convolution import Convolution
from tests.rocket.grid import DEVICE, check, open_simulator

Random = np.random.Generator
ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def numbers(random: Random, outputs: int, terms: float) -> dict[str, Any]:
    """Scales of weights and of the result, for inputs of scale 0.05."""
    scales = [float(s) for s in np.exp(random.uniform(-6, -3, outputs))]
    return {
        "weight_scale": scales,
        "scale": 0.05 * max(scales) * 73 * 73 * float(np.sqrt(terms)) / random.uniform(20, 80),
        "zero_point": int(random.integers(-128, 128)),
        "activation": str(random.choice(ACTIVATIONS)),
    }


def picked(random: Random, *values: int) -> int:
    return int(random.choice(values))


def transposed(random: Random) -> Graph:
    b, depth, outputs = Builder("transposed"), picked(random, 1, 3, 40), picked(random, 1, 5, 70)
    size = [picked(random, 1, 2, 5, 8), picked(random, 1, 3, 7, 90)]
    kernel = picked(random, 1, 2, 3, 4, 5), picked(random, 1, 2, 3, 4, 6)
    stride = picked(random, 1, 2, 3, 4), picked(random, 1, 2, 3, 8)
    same = random.random() < 0.5
    made = [
        n * s if same else (n - 1) * s + k for n, s, k in zip(size, stride, kernel, strict=True)
    ]
    x = b.input(
        "x", "i8", (1, *size, depth), scale=0.05, zero_point=int(random.integers(-128, 128))
    )
    weights = random.integers(-127, 128, (outputs, *kernel, depth)).astype(np.int8)
    how = numbers(random, outputs, max(kernel[0] * kernel[1] * depth / stride[0] / stride[1], 1))
    b.output(
        b.transpose_conv(
            x, weights, random.integers(-3000, 3000, outputs).astype(np.int32),
            size=(made[0], made[1]), stride=stride, padding="same" if same else "valid", **how,
        )
    )  # fmt: skip
    return b.build()


def long_strides(random: Random) -> Graph:
    b, depth, depthwise = Builder("strides"), picked(random, 1, 3, 33), random.random() < 0.3
    kernel = picked(random, 1, 7, 16, 19), picked(random, 1, 8, 16)
    stride = picked(random, 1, 8, 16, 25), picked(random, 8, 9, 16)
    size = [k + int(random.integers(0, 40)) for k in kernel]
    outputs = depth if depthwise else 12
    shape = (1, *kernel, depth) if depthwise else (outputs, *kernel, depth)
    x = b.input("x", "i8", (picked(random, 1, 2), *size, depth), scale=0.05, zero_point=-3)
    weights = random.integers(-127, 128, shape).astype(np.int8)
    how = numbers(random, outputs, kernel[0] * kernel[1] * (1 if depthwise else depth))
    add = b.depthwise_conv2d if depthwise else b.conv2d
    padding = str(random.choice(["same", "valid"]))
    b.output(add(x, weights, None, stride=stride, padding=padding, **how))
    return b.build()


def grouped(random: Random) -> Graph:
    b, groups = Builder("grouped"), picked(random, 2, 4, 8, 16)
    depth, results = picked(random, 4, 8, 16, 32), picked(random, 2, 8, 16, 32)
    shape = (picked(random, 1, 2), 7, 9, groups * depth)
    x = b.input("x", "i8", shape, scale=0.05, zero_point=int(random.integers(-128, 128)))
    outputs = groups * results
    weights = random.integers(-127, 128, (outputs, 3, 3, depth)).astype(np.int8)
    bias = random.integers(-2000, 2000, outputs).astype(np.int32)
    b.output(b.conv2d(x, weights, bias, padding="same", **numbers(random, outputs, 9 * depth)))
    return b.build()


@pytest.mark.parametrize("make", [transposed, long_strides, grouped])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_within_a_step(context: RocketContext, make: Callable[[Random], Graph], seed: int) -> None:
    random = np.random.default_rng(seed)
    graph = make(random)
    assert check(context, graph, random) == ""


def test_groups_are_not_multiplied_with_each_other() -> None:
    """32 groups of 16 channels: 16 convolutions of 32 channels each."""
    b = Builder("groups")
    x = b.input("x", "i8", (1, 8, 8, 512), scale=0.05, zero_point=0)
    weights = np.ones((512, 3, 3, 16), np.int8)
    b.output(b.conv2d(x, weights, None, padding="same", weight_scale=0.01, scale=1.0))
    graph = b.build()
    made = lower(graph, RK3588).operations
    assert [op.geometry.channels for op in made if isinstance(op, Convolution)] == [32] * 16
    assert sum(op.macs for op in made) == graph.ops[0].macs


def test_depthwise_weights_that_fill_more_than_the_buffer(context: RocketContext) -> None:
    """64 channels at a time."""
    random = np.random.default_rng(1)
    b = Builder("large")
    x = b.input("x", "i8", (1, 24, 24, 700), scale=0.05, zero_point=9)
    weights = random.integers(-127, 128, (1, 23, 23, 700)).astype(np.int8)
    b.output(b.depthwise_conv2d(x, weights, None, padding="same", **numbers(random, 700, 23 * 23)))
    graph = b.build()
    assert check(context, graph, random) == ""
    made = lower(graph, RK3588).operations
    assert [op.geometry.channels for op in made if isinstance(op, Convolution)] == [64] * 10 + [60]


@pytest.mark.parametrize("activation", ["relu6", "relu_n1_to_1"])
def test_a_clamp_between_units_of_the_accumulator(context: RocketContext, activation: str) -> None:
    """One unit is three steps of the output: BS keeps bits below it."""
    random = np.random.default_rng(3)
    b = Builder("coarse")
    x = b.input("x", "i8", (1, 5, 5, 8), scale=0.3, zero_point=2)
    weights = random.integers(-3, 4, (8, 1, 1, 8)).astype(np.int8)
    b.output(b.conv2d(x, weights, None, weight_scale=0.3, scale=0.03, zero_point=-90,
                      activation=activation))  # fmt: skip
    graph = b.build()
    assert DEVICE.unsupported(graph.ops[0], graph) == []
    assert check(context, graph, random) == ""
