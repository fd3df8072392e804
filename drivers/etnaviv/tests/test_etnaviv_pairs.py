"""Sums and products of two tensors on the simulated chips, with scales of any ratio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import interpreter
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Array
from teflon.pipe import Context
from teflon_etnaviv.exact.layers.sums import halves, weights_in_ratio
from teflon_etnaviv.tensors import Tensor
from tests.etnaviv.grid import opened
from tests.etnaviv.parity import CHIPS
from tests.rocket.grid import random_inputs

Random = np.random.Generator


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


def quantization(random: Random, dtype: str, scale: float) -> dict[str, Any]:
    low = 0 if dtype == "u8" else -128
    return {"scale": scale, "zero_point": int(random.integers(low, low + 256))}


def differences(context: Context, graph: Graph, random: Random) -> Array:
    assert [r for op in graph.ops for r in context.device.unsupported(op, graph)] == []
    x = random_inputs(random, graph)
    loaded = context.load(context.device.compile(graph))
    have = context.invoke(loaded, x)
    loaded.close()
    want = interpreter.run(graph, x)
    found: Array = np.abs(have[0].astype(int) - want[0].astype(int))
    return found


def operands(
    b: Builder, random: Random, ratio: float, constant: bool = False
) -> tuple[Value, Value]:
    dtype = str(random.choice(["u8", "i8"]))
    size, channels = int(random.integers(2, 9)), int(random.choice([1, 3, 8, 16]))
    shape = (1, size, 7, channels)
    x = b.input("x", dtype, shape, **quantization(random, dtype, 0.04))
    how = quantization(random, dtype, 0.04 * ratio)
    if constant:
        data = random.integers(0, 256, channels).astype(np.uint8).view(x.type.dtype.numpy)
        y = b.constant(data, *how.values())
    else:
        y = b.input("y", dtype, shape, **how)
    return (x, y) if random.random() < 0.5 else (y, x)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(-5, 5), st.floats(-0.3, 1.3), st.booleans())
def test_sums_of_any_scales(
    context: Context, seed: int, decades: float, place: float, takes_away: bool
) -> None:
    """The result's scale is anywhere between those of the operands, and a little beyond."""
    random = np.random.default_rng(seed)
    b = Builder("sum")
    ratio = 10.0**decades
    a, c = operands(b, random, ratio)
    dtype = a.type.dtype.value
    how = quantization(random, dtype, 0.04 * ratio**place * float(random.uniform(0.5, 2)))
    how["activation"] = str(random.choice(["none", "relu", "relu6", "relu_n1_to_1"]))
    b.output((b.sub if takes_away else b.add)(a, c, **how))
    assert differences(context, b.build(), random).max() <= 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_halves_go_where_tflites_go(context: Context, seed: int, takes_away: bool) -> None:
    random = np.random.default_rng(seed)
    b = Builder("halves")
    a, c = operands(b, random, 1.0)
    how = quantization(random, a.type.dtype.value, 0.08)
    b.output((b.sub if takes_away else b.add)(a, c, **how))
    assert not differences(context, b.build(), random).any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(-2, 2), st.floats(0, 2.2))
def test_products_of_two_tensors(context: Context, seed: int, decades: float, room: float) -> None:
    random = np.random.default_rng(seed)
    b = Builder("product")
    a, c = operands(b, random, 10.0**decades)
    dtype, step = a.type.dtype.value, a.type.scale * c.type.scale
    how = quantization(random, dtype, step * 10.0**room)
    how["activation"] = str(random.choice(["none", "relu", "relu6"]))
    b.output(b.mul(a, c, **how))
    assert differences(context, b.build(), random).max() <= 1


CONSTANTS = [((1, 5, 7, 8), (5, 7, 8)), ((1, 5, 7, 8), (7, 8)), ((1, 40), (40,)),
             ((1, 6, 9), (1, 6, 9)), ((1, 5, 7, 1), (5, 7, 1)), ((3, 8), (8,))]  # fmt: skip


@settings(max_examples=3, deadline=None)
@pytest.mark.parametrize(("shape", "axes"), CONSTANTS, ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
@given(st.integers(0, 2**32), st.booleans())
def test_constants_of_several_axes(
    context: Context, name: str, shape: tuple[int, ...], axes: tuple[int, ...], seed: int,
    first: bool,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    b = Builder(name)
    x = b.input("x", "i8", shape, 0.05, 3)
    y = b.constant(random.integers(-128, 128, axes).astype(np.int8), 0.03, -9)
    how = quantization(random, "i8", 0.15 if name == "mul" else 0.1)
    z = getattr(b, name)(*((y, x) if first else (x, y)), **how)
    b.output(z)
    b.output(b.relu(z, **how))
    assert differences(context, b.build(), random).max() <= 1


SMALLER: list[tuple[int, ...]] = [
    (1, 1, 1, 8), (1, 1, 1, 1), (8,), (1, 5, 7, 1), (1, 1, 7, 8), (7, 8), (1, 5, 7, 8),
]  # fmt: skip


@settings(max_examples=3, deadline=None)
@pytest.mark.parametrize("shape", SMALLER, ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul"])
@given(st.integers(0, 2**32), st.booleans())
def test_operands_of_fewer_elements(
    context: Context, name: str, shape: tuple[int, ...], seed: int, behind: bool
) -> None:
    """Both computed; also behind a convolution, whose results lie in planes."""
    random = np.random.default_rng(seed)
    b = Builder(name)
    x = b.input("x", "i8", (1, 5, 7, 8), 0.05, 3)
    if behind:
        x = b.conv2d(
            x, np.eye(8, dtype=np.int8).reshape(8, 1, 1, 8), weight_scale=1.0, scale=0.05,
            zero_point=3,
        )  # fmt: skip
    y = b.input("y", "i8", shape, 0.03, -9)
    pair = (x, y) if random.random() < 0.5 else (y, x)
    how = quantization(random, "i8", 0.15 if name == "mul" else 0.1)
    b.output(getattr(b, name)(*pair, **how))
    assert differences(context, b.build(), random).max() <= 1


def test_squeeze_and_excite(context: Context) -> None:
    """A gate that is computed of the map, and multiplies it; the map has another user."""
    random = np.random.default_rng(2)
    b = Builder("squeeze and excite")
    x = b.input("x", "i8", (1, 6, 6, 16), 0.05, -3)
    weights = random.integers(-127, 128, (16, 1, 1, 16)).astype(np.int8)
    y = b.conv2d(x, weights, weight_scale=0.01, scale=0.1, zero_point=-20, activation="relu")
    small = b.conv2d(
        b.input("mean", "i8", (1, 1, 1, 16), 0.02, 0), weights, weight_scale=0.01, scale=0.05,
        zero_point=0,
    )  # fmt: skip
    b.output(b.mul(y, b.logistic(small), scale=0.1, zero_point=-20))
    b.output(b.relu(y, scale=0.1, zero_point=-20))
    assert differences(context, b.build(), random).max() <= 1


def test_every_product_of_two_bytes(context: Context) -> None:
    """All 65 536 pairs, with a step that is worth one unit in 255."""
    b = Builder("all pairs")
    x, y = (
        b.input(name, "i8", (1, 16, 16, 256), 1.0, zero) for name, zero in (("x", 3), ("y", -7))
    )
    b.output(b.mul(x, y, scale=131.0, zero_point=-3))
    graph = b.build()
    values = np.arange(256, dtype=np.uint8).view(np.int8)
    data = [np.repeat(values, 256), np.tile(values, 256)]
    loaded = context.load(context.device.compile(graph))
    (have,) = context.invoke(loaded, [d.reshape(1, 16, 16, 256) for d in data])
    loaded.close()
    real = np.rint((data[0].astype(int) - 3) * (data[1].astype(int) + 7) / 131) - 3
    np.testing.assert_array_equal(have.reshape(-1), np.clip(real, -128, 127))


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 2**32),
    st.floats(-2, 2),
    st.floats(-0.5, 1),
    st.sampled_from(["add", "sub", "mul"]),
)
def test_constants_of_channels(
    context: Context, seed: int, decades: float, room: float, name: str
) -> None:
    random = np.random.default_rng(seed)
    b = Builder(name)
    ratio = 10.0**decades
    a, c = operands(b, random, ratio, constant=True)
    step = 0.04 * 0.04 * ratio * 20 if name == "mul" else 0.04 * max(ratio, 1.0)
    how = quantization(random, a.type.dtype.value, step * 10.0**room)
    b.output(getattr(b, name)(a, c, **how))
    assert differences(context, b.build(), random).max() <= 1


@given(st.floats(1 / 250, 250), st.booleans())
def test_weights_are_in_their_ratio(ratio: float, negative: bool) -> None:
    """What is left is less than half a unit in the smaller weight, and both fit 8 bits together."""
    one, other = weights_in_ratio(-ratio if negative else ratio)
    assert one > 0
    assert (other < 0) is negative
    assert max(one, other, one - other) <= 255
    assert abs(abs(other) - ratio * one) / max(one, abs(other)) <= 0.5 / 64


@settings(max_examples=300)
@given(st.floats(-6, 6), st.floats(-7, 7))
def test_operands_are_brought_near(decades: float, out: float) -> None:
    a, c, target = (
        Tensor("", (1, 1, 1, 1), np.float32(10.0**power), zero, False)
        for power, zero in ((0, 9), (decades, 200), (out, 100))
    )
    made = halves(a, c, target)
    assert 1 / 251 <= made.scales[1] / made.scales[0] <= 251
    small, large = (0, 1) if decades >= 0 else (1, 0)
    function = (made.a, made.b)[small]
    if function is not None:  # half of the smaller one's new step: a quarter of the result's
        assert made.scales[small] <= float(target.scale) / 2 * 1.001
    if (made.a, made.b)[large] is not None:  # what is cut off is beyond the result's range
        reach = 127 * made.scales[large]
        assert reach >= 255 * float(target.scale) + 255 * float((a, c)[small].scale)


def crossed(b: Builder) -> Value:
    x = b.input("x", "u8", (1, 4, 1, 8), 0.1, 3)
    return b.mul(x, b.input("y", "u8", (1, 1, 4, 8), 0.1, 3), scale=0.5, zero_point=3)


def coarse(b: Builder) -> Value:
    x = b.input("x", "u8", (1, 4, 4, 8), 50.0, 3)
    y = b.constant(np.arange(8, dtype=np.uint8), 0.1, 3)
    return b.add(x, y, scale=0.1, zero_point=3)


def far(b: Builder) -> Value:
    x = b.input("x", "u8", (1, 4, 4, 8), 1e-8, 3)
    y = b.constant(np.arange(8, dtype=np.uint8), 1.0, 3)
    return b.add(x, y, scale=1.0, zero_point=3)


def large(b: Builder) -> Value:
    x, y = (b.input(name, "u8", (1, 1, 65521, 1039), 0.1, 3) for name in "xy")
    return b.mul(x, y, scale=0.1, zero_point=3)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (crossed, "Factors must have the result's shape, lack its first axes or have one channel"),
        (coarse, "must be at most 100 times the result's (50 and 0.1)"),
        (far, "a constant is too far from the tensor's numbers"),
        (large, "The elements of a product must fold into images"),
    ],
)
def test_what_is_refused(context: Context, make: Any, reason: str) -> None:
    b = Builder("refused")
    b.output(make(b))
    graph = b.build()
    (found,) = context.device.unsupported(graph.ops[-1], graph)
    assert reason in found
