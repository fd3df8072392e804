"""Elementwise operations on the strict simulator: shapes, broadcasting, constants, large maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from teflon.compile.source import read_graph
from teflon.ir import ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import DType
from teflon_rocket.context import RocketContext
from teflon_rocket.exact.operands import constant
from teflon_rocket.operations.stages import Pixels
from tests.paths import MODELS, needs_shared
from tests.rocket.grid import (
    ACTIVATIONS,
    DEVICE,
    Random,
    blocks,
    channel_count,
    check,
    check_block,
    convolved,
    open_simulator,
    pick,
    quantization,
    result,
    weights,
)

Shape = tuple[int, ...]


@pytest.fixture(scope="module")
def context() -> Iterator[RocketContext]:
    with open_simulator() as opened:
        yield opened


def value(b: Builder, random: Random, dtype: str, shape: Shape, fixed: bool) -> Value:
    how = quantization(random, dtype)
    if not fixed:
        return b.input("x", dtype, shape, **how)
    low, high = (0, 256) if dtype == "u8" else (-128, 128)
    data = random.integers(low, high, shape, np.uint8 if dtype == "u8" else np.int8)
    return b.constant(data, how["scale"], how["zero_point"])


def joined(b: Builder, random: Random, kind: str, first: Value, second: Value) -> Value:
    """Add an operation with two operands; its result uses a good part of the range."""
    if kind in ("maximum", "minimum"):
        chosen = ops.Maximum if kind == "maximum" else ops.Minimum
        return b.op(chosen, a=first, b=second, name="y")
    how: dict[str, Any] = quantization(random, first.type.dtype.value)
    scales = first.type.scale, second.type.scale
    unit = scales[0] * scales[1] * 64 if kind == "mul" else max(scales)
    how |= {"scale": float(unit * np.exp(random.uniform(-1, 2))), "name": "y"}
    add = {"add": b.add, "sub": b.sub, "mul": b.mul}[kind]
    return add(first, second, activation=pick(random, *ACTIVATIONS), **how)


KINDS = ("add", "sub", "mul", "maximum", "minimum")


def pairs(random: Random) -> Graph:
    """Two operands: of one shape, constant, broadcast; either comes first."""
    dtype, channels = pick(random, "u8", "i8"), channel_count(random)
    images = int(pick(random, 1, 1, 1, 2))
    height, width = (int(side) for side in random.integers(1, 9, 2))
    whole = pick(
        random, (images, height, width, channels), (images, height, width, channels),
        (height, width, channels), (width, channels), (channels,),
    )  # fmt: skip
    fixed = random.random() < 0.4
    small = [(1,) * (len(whole) - 1) + whole[-1:], (*whole[:-1], 1), (1,) * len(whole), (1,)]
    if fixed:
        small += [(1,) * (len(whole) - 2) + whole[-2:], ()]
    if len(whole) == 4:
        small += [(1, *whole[1:]), (whole[0], 1, 1, channels)]
    shape = whole if random.random() < 0.4 else pick(random, *small)
    kind = str(pick(random, *KINDS))
    b = Builder(kind)
    operands = [
        value(b, random, dtype, whole, False), value(b, random, dtype, shape, fixed),
    ]  # fmt: skip
    if kind != "sub" or random.random() < 0.5:
        operands.reverse()
    b.output(joined(b, random, kind, operands[0], operands[1]))
    return b.build()


@pytest.mark.parametrize("block", blocks(15))
def test_pairs(context: RocketContext, block: int) -> None:
    check_block(context, pairs, block)


def far_apart(random: Random) -> Graph:
    """Operands with scales 100 to 5000 apart, and a result as fine as the finer one."""
    dtype, kind = pick(random, "u8", "i8"), pick(random, "add", "sub")
    b = Builder("far apart")
    fine = value(b, random, dtype, (1, 5, 6, 20), False)
    scale = float(fine.type.scale * np.exp(random.uniform(4.6, 8.5)))
    coarse = b.input("y", dtype, (1, 5, 6, 20), scale, 100)
    pair = (fine, coarse) if random.random() < 0.5 else (coarse, fine)
    how: dict[str, Any] = quantization(random, dtype)
    how |= {"scale": fine.type.scale, "activation": pick(random, *ACTIVATIONS), "name": "z"}
    b.output((b.add if kind == "add" else b.sub)(*pair, **how))
    return b.build()


@pytest.mark.parametrize("block", blocks(2))
def test_scales_far_apart(context: RocketContext, block: int) -> None:
    check_block(context, far_apart, block)


@needs_shared
@pytest.mark.parametrize("name", ["45_natural_relu6_x600_pt", "46_sub2_pt_1000"])
def test_files_with_scales_far_apart(context: RocketContext, name: str) -> None:
    """What a converter wrote: an addition after which nearly all of one operand is cut off."""
    assert MODELS is not None
    graph = read_graph(MODELS / "odd" / f"{name}.tflite")
    assert check(context, graph, np.random.default_rng(3)) == ""


@given(
    shape=st.tuples(*[st.integers(1, 5)] * 3, st.integers(1, 40)),
    ones=st.tuples(*[st.booleans()] * 4),
    uint8=st.booleans(),
)
def test_constant_bytes(
    shape: tuple[int, int, int, int], ones: Sequence[bool], uint8: bool
) -> None:
    """Every pixel and channel has the byte that numpy's broadcasting gives it."""
    given_shape = tuple(1 if one else n for n, one in zip(shape, ones, strict=True))
    dtype = DType.UINT8 if uint8 else DType.INT8
    data = (np.arange(np.prod(given_shape)) * 37 % 251).astype(np.uint8).reshape(given_shape)
    found = constant(data.view(dtype.numpy), shape, dtype)
    want = np.broadcast_to(data ^ np.uint8(0x80 if uint8 else 0), shape)
    for image, row, column, channel in np.ndindex(*shape):
        surface, lane = divmod(channel, 16)
        if isinstance(found, Pixels):
            pixel = surface * found.pitch + row * shape[2] + column
            at, raw = found.offset(image) + pixel * 16 + lane, found.constant.data
        else:
            at, raw = channel, found.data
        assert raw[at] == want[image, row, column, channel]


def itself(random: Random) -> Graph:
    """An operand with itself."""
    dtype, kind = pick(random, "u8", "i8"), str(pick(random, *KINDS))
    b = Builder(kind)
    x = value(b, random, dtype, (1, 3, 5, channel_count(random)), False)
    b.output(joined(b, random, kind, x, x))
    return b.build()


def test_itself(context: RocketContext) -> None:
    check_block(context, itself, 0)


def single(random: Random) -> Graph:
    """One operand: limits, slopes, another scale."""
    dtype, channels = pick(random, "u8", "i8"), channel_count(random)
    b = Builder("single")
    x = value(b, random, dtype, (int(pick(random, 1, 2)), 3, 5, channels), False)
    how = quantization(random, dtype)
    how |= {"scale": float(x.type.scale * np.exp(random.uniform(-2, 2))), "name": "y"}
    kind = pick(
        random, ops.Relu, ops.Relu6, ops.Relu0To1, ops.ReluN1To1, ops.LeakyRelu, ops.Prelu,
        ops.Quantize, ops.Abs,
    )  # fmt: skip
    if kind is ops.LeakyRelu:
        how["alpha"] = float(pick(random, 0.01, 0.1, 0.3, -1.5))
    if kind is ops.Prelu:
        shape = pick(random, (channels,), (1, 1, channels), (1, 1, 1))
        low = 0 if dtype == "u8" else -128
        slopes = random.integers(low, low + 256, shape, np.uint8 if dtype == "u8" else np.int8)
        how["alpha"] = b.constant(slopes, float(random.uniform(0.0005, 0.007)), low + 60)
    if kind is ops.Quantize:
        how |= {"dtype": pick(random, "u8", "i8")}
        how["zero_point"] = 100
    if kind is ops.Abs and dtype == "u8":
        kind = ops.Relu
    b.output(b.op(kind, input=x, **how))
    return b.build()


@pytest.mark.parametrize("block", blocks(4))
def test_single(context: RocketContext, block: int) -> None:
    check_block(context, single, block)


@pytest.mark.parametrize(
    "shape", [(1, 1, 2047, 5), (1, 8400, 20), (1, 2500, 2, 16), (2, 1, 2100, 17), (1, 4099, 1, 3)]
)
def test_more_rows_or_columns_than_the_dpu_counts(context: RocketContext, shape: Shape) -> None:
    for small in (shape, shape[-1:], (*shape[:-1], 1)):
        for fixed in (False, True):
            random = np.random.default_rng(7)
            b = Builder("large")
            x, y = value(b, random, "i8", shape, False), value(b, random, "i8", small, fixed)
            b.output(b.relu(joined(b, random, "mul", x, y), scale=0.05, name="z"))
            assert check(context, b.build(), random) == ""


def gated(random: Random) -> Graph:
    """Squeeze and excite: a gate for each channel that comes from the map itself."""
    dtype, channels = pick(random, "u8", "i8"), channel_count(random)
    b = Builder("gated")
    x = b.input("x", dtype, (1, 5, 6, channels), **quantization(random, dtype))
    pooled = b.input("pooled", dtype, (1, 1, 1, channels), **quantization(random, dtype))
    gate = convolved(b, random, pooled, (channels, 1, 1, channels), False, activation="relu")
    b.output(b.mul(x, gate, scale=x.type.scale * gate.type.scale * 50, zero_point=7, name="y"))
    return b.build()


def dense_gate(random: Random) -> Graph:
    """A gate that a fully connected layer makes, one row for each image."""
    dtype, channels = pick(random, "u8", "i8"), channel_count(random)
    b = Builder("dense gate")
    x = b.input("x", dtype, (1, 5, 6, channels), **quantization(random, dtype))
    pooled = b.input("pooled", dtype, (1, 20), **quantization(random, dtype))
    data, scaled = weights(random, dtype, (channels, 20))
    how = result(random, dtype, pooled.type.scale * scaled["weight_scale"], 20)
    gate = b.fully_connected(pooled, data, **scaled, **how)
    b.output(b.mul(gate, x, scale=x.type.scale * gate.type.scale * 50, zero_point=7, name="y"))
    return b.build()


def picked(random: Random) -> Graph:
    """One pixel of a map, or some channels of another pixel, that go with all pixels."""
    dtype, channels = pick(random, "u8", "i8"), int(pick(random, 16, 32, 48, 100))
    b = Builder("picked")
    x = b.input("x", dtype, (1, 5, 6, channels), **quantization(random, dtype))
    if random.random() < 0.5:
        whole = b.input("whole", dtype, (1, 3, 5, channels), **quantization(random, dtype))
        gate = b.slice(whole, (0, 1, 2, 0), (1, 1, 1, channels))
    else:
        whole = b.input("whole", dtype, (1, 1, 1, channels + 32), **quantization(random, dtype))
        gate = b.slice(whole, (0, 0, 0, 32), (1, 1, 1, channels))
    b.output(b.mul(x, gate, scale=x.type.scale * gate.type.scale * 50, zero_point=7, name="y"))
    return b.build()


def apart_squared(random: Random) -> Graph:
    """The square of a difference."""
    b = Builder("squared")
    shape = (int(pick(random, 1, 2)), 3, 5, channel_count(random))
    x = b.input("x", "i8", shape, **quantization(random, "i8"))
    other = pick(random, shape, (1, 1, 1, shape[3]), (1, 1, 1, 1))
    scale = x.type.scale
    if random.random() < 0.5:
        y = b.input("y", "i8", other, scale, 5)
    else:
        y = b.constant(random.integers(-128, 128, other, np.int8), scale, 5)
    scale = float((scale * random.uniform(100, 500)) ** 2 / 255)
    b.output(b.op(ops.SquaredDifference, a=x, b=y, scale=scale, zero_point=-128, name="z"))
    return b.build()


def excited(random: Random) -> Graph:
    """Squeeze and excite whole: mean, two layers, LOGISTIC or a hard sigmoid, MUL."""
    dtype, channels = pick(random, "u8", "i8"), int(pick(random, 16, 24, 40, 72))
    b = Builder("excited")
    x = b.input("x", dtype, (1, 7, 6, channels), **quantization(random, dtype) | {"scale": 1e-4})
    x = convolved(b, random, x, (channels, 1, 1, channels), False)
    kept = random.random() < 0.7
    gate = b.mean(x, keep_dims=kept)
    for outside, activation in ((8, "relu"), (channels, "none")):
        inside = gate.shape[-1]
        if kept:
            shape = (outside, 1, 1, inside)
            gate = convolved(b, random, gate, shape, False, activation=activation)
            continue
        data, scaled = weights(random, dtype, (outside, inside))
        how = result(random, dtype, gate.type.scale * scaled["weight_scale"], inside)
        gate = b.fully_connected(gate, data, activation=activation, **scaled, **how)
    low = 0 if dtype == "u8" else -128
    if random.random() < 0.5:
        gate = b.logistic(gate, scale=1 / 256, zero_point=low)
    else:
        kind = np.uint8 if dtype == "u8" else np.int8
        three = b.constant(np.array(low + 255, kind), 3 / 255, low)
        sixth = b.constant(np.array(low + 255, kind), 1 / 6 / 255, low)
        gate = b.add(gate, three, activation="relu6", scale=6 / 255, zero_point=low)
        gate = b.mul(gate, sixth, scale=1 / 255, zero_point=low)
    if not kept:
        gate = b.reshape(gate, (1, 1, 1, channels))
    b.output(b.mul(x, gate, scale=x.type.scale, zero_point=x.type.zero_point, name="y"))
    return b.build()


def test_squeeze_and_excite_is_one_job() -> None:
    """Nothing of it is left to the host, and the NPU does it at one go."""
    for seed in range(6):
        graph = excited(np.random.default_rng(seed))
        assert not [reason for op in graph.ops for reason in DEVICE.unsupported(op, graph)]
        assert DEVICE.compile(graph).statistics["jobs"] == 1


def converted(random: Random) -> Graph:
    """A uint8 picture for an int8 convolution, and its result as uint8 again."""
    b = Builder("converted")
    channels = channel_count(random)
    x = b.input("x", "u8", (int(pick(random, 1, 2)), 5, 3, channels), 0.1, 130)
    signed = b.quantize(x, "i8", scale=0.1, zero_point=2)
    y = convolved(b, random, signed, (24, 3, 3, channels), False, padding="same")
    zero = int(y.type.zero_point)
    unsigned = b.quantize(y, "u8", scale=y.type.scale, zero_point=zero + 128)
    b.output(unsigned if random.random() < 0.5 else b.relu(unsigned), *[signed] * (channels > 30))
    return b.build()


def test_a_change_of_type_costs_nothing(context: RocketContext) -> None:
    check_block(context, converted, 0)
    for seed in range(20):
        graph = converted(np.random.default_rng(seed))
        computed = [op for op in graph.ops if op.mnemonic != "quantize"]
        copied = len(graph.outputs) - 1  # the input's bytes, to an output of their own
        assert DEVICE.compile(graph).statistics["operations"] == len(computed) + copied


@pytest.mark.parametrize("case", [gated, dense_gate, picked, apart_squared, excited])
def test_gates(context: RocketContext, case: Any) -> None:
    check_block(context, case, 0)


@pytest.mark.parametrize("first", [1.0, 2.0**-61, 2.0**-80, 1e-38])
@pytest.mark.parametrize("second", [1.0, 2.0**-61, 2.0**-80, 1e-38])
def test_scales_as_far_apart_as_they_can_be(
    context: RocketContext, first: float, second: float
) -> None:
    b = Builder("far")
    x, y = (b.input("x", "i8", (1, 2, 3, 16), scale, 5) for scale in (first, second))
    b.output(b.add(x, y, scale=max(first, second), zero_point=-7))
    assert check(context, b.build(), np.random.default_rng(0)) == ""
