# Ref: docs/hardware/rocket_vendor.md §2 (elementwise, numeric checks of EW)
"""Elementwise operations as passes of the DPU: their numbers over all pairs of 8-bit values, with a
model of the stages; the vendor's words; what is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from teflon.ir import ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op
from teflon.ir.types import DType
from teflon_rocket.chips import RK3588
from teflon_rocket.device import RocketDevice
from teflon_rocket.exact.lower import lower
from teflon_rocket.operations.data import Constant
from teflon_rocket.operations.numbers import Converter
from teflon_rocket.operations.passes import Pass, Size
from teflon_rocket.operations.stages import OFF, Kind, Other, Source, Stage
from tests.paths import needs_shared
from tests.rocket.stages import Ints, passed
from tests.rocket.words import feature, ours, vendors

DEVICE = RocketDevice("rk3588")
EVERY = np.arange(256, dtype=np.uint8)


# The vendor's words ------------------------------------------------------------------------------

A, B, Y = feature(12, 12), feature(12, 12), feature(12, 12)
SIZE = Size(1, 12, 12, 32)
CHANNELS = Constant("constants", bytes(32), 32)
FINE = Stage(add=12, factor=0x4000)


def vendors_pass(
    bs: Stage, output: tuple[int, int, int], other: Other | None = None, bn: Stage = OFF
) -> Pass:
    return Pass("y", Source(A), Source(Y), SIZE, bs, bn, other, Converter(*output))


@needs_shared
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        (
            "eaddc",
            vendors_pass(
                FINE, (-12, 0x5C05, 29), Other(Kind.ADD, CHANNELS, 15, 0x6813, 2)
            ),
        ),
        (
            "eaddc",
            vendors_pass(
                FINE, (-12, 0x5C05, 29),
                Other(Kind.ADD, Source(feature(1, 1), spread=True), 15, 0x6813, 2),
            ),
        ),
        (
            "emulc",
            vendors_pass(
                Stage(add=12), (-12, 0x7296, 22), Other(Kind.MULTIPLY, CHANNELS, 17, 1, 0)
            ),
        ),
        (
            "esub",
            vendors_pass(
                FINE, (-4, 0x5D88, 29), Other(Kind.ADD, Source(B), 15, 0x9739 - 0x10000, 2)
            ),
        ),
        (
            "esub_r",
            vendors_pass(
                Stage(add=15, factor=0x68B7, shift=2), (4, 0x5C45, 29),
                Other(Kind.ADD, Source(B), 12, -0x4000, 0),
            ),
        ),
        (
            "eabs",
            vendors_pass(
                FINE._replace(negative_shift=14), (-128, 0x7555, 28),
                bn=Stage(factor=-0x4000, prelu=True),
            ),
        ),
        ("erelu", vendors_pass(Stage(add=128, relu=True), (-128, 1, 0))),
        ("eneg", vendors_pass(Stage(add=12), (11, -0x4000, 14))),
        ("eclip", vendors_pass(Stage(add=128, relu=True, ceiling=255), (-128, 1, 0))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_the_words_are_the_vendors(name: str, operation: Pass) -> None:
    assert ours(operation) == vendors(name, 0)


# Against the reference's arithmetic --------------------------------------------------------------


def passes(graph: Graph) -> list[Pass]:
    found = lower(graph, RK3588).operations
    assert all(isinstance(one, Pass) for one in found)
    return found  # type: ignore[return-value]


def worst(graph: Graph) -> int:
    """Greatest difference of a graph of one operation from the reference, over all operands."""
    (op,) = graph.ops
    inputs = [value for value in op.inputs_present if not value.is_constant]
    kinds = [value.type.dtype for value in inputs]
    operands: list[Any] = [EVERY.view(kinds[0].numpy)]
    if len(kinds) == 2:
        operands = [operands[0][:, None], EVERY.view(kinds[1].numpy)[None]]
        operands = [np.ascontiguousarray(x) for x in np.broadcast_arrays(*operands)]
    (want,) = op.evaluate(*operands, *(v.data for v in op.inputs_present if v.is_constant))
    main, *rest = (stored(x, kind) for x, kind in zip(operands, kinds, strict=True))
    first, *later = passes(graph)
    have = passed(first, main, *rest)
    for one in later:
        have = passed(one, have)
    return int(np.abs(have - stored(want, op.results[0].type.dtype)).max())


def stored(values: NDArray[Any], dtype: DType) -> Ints:
    """Return values as bytes of the NPU's memory, -128 to 127."""
    return values.astype(np.int64) - (128 if dtype is DType.UINT8 else 0)


def pair(
    kind: str, dtype: str, scales: Sequence[float], zeros: Sequence[int], activation: str = "none"
) -> Graph:
    b = Builder(kind)
    x, y = (
        b.input(n, dtype, (1, 4, 4, 16), s, z)
        for n, s, z in zip("xy", scales[:2], zeros[:2], strict=True)
    )
    how: dict[str, Any] = {"scale": scales[2], "zero_point": zeros[2], "name": "out"}
    if kind in ("add", "sub", "mul"):
        how["activation"] = activation
    b.output(getattr(b, kind)(x, y, **how))
    return b.build()


def zero_point(random: np.random.Generator, dtype: str) -> int:
    low, high = (0, 255) if dtype == "u8" else (-128, 127)
    return int(random.choice([low, high, int(random.integers(low, high + 1))], p=[0.3, 0.1, 0.6]))


ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1")


@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
@pytest.mark.parametrize("block", range(4))
def test_all_pairs(kind: str, block: int) -> None:
    wrong = []
    for number in range(25):
        random = np.random.default_rng([block, number, ord(kind[0])])
        dtype = str(random.choice(["u8", "i8"]))
        activation = str(random.choice(list(ACTIVATIONS)))
        first, second = np.exp(random.uniform(-6, 1, 2))
        larger = first * second * 64 if kind == "mul" else max(first, second)
        scales = [float(v) for v in (first, second, larger * np.exp(random.uniform(-3, 3)))]
        zeros = [zero_point(random, dtype) for _ in range(3)]
        distance = worst(pair(kind, dtype, scales, zeros, activation))
        if distance > 1:
            wrong.append((number, dtype, activation, scales, zeros, distance))
    assert not wrong


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("ratio", [1.0, 2.0, 100.0, 281.0, 600.0, 1000.0, 1e5, 1e9, 1e30])
@pytest.mark.parametrize("kind", ["add", "sub"])
def test_scales_far_apart(kind: str, ratio: float, activation: str) -> None:
    """One operand is next to nothing, or the result is as fine as the smaller one."""
    for scales in ([ratio, 1.0, ratio], [0.02, 0.02 * ratio, 0.02 * ratio]):
        assert worst(pair(kind, "i8", scales, [3, -7, -20], activation)) <= 1
    if ratio <= 1000:
        for scales in ([0.02 * ratio, 0.02, 0.021], [0.023, 0.023 * ratio, 0.023]):
            assert worst(pair(kind, "u8", scales, [3, 130, 0], activation)) <= 1


@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
def test_what_is_taken_is_right_whatever_the_scales_are(kind: str) -> None:
    """Scales between the smallest and the largest of float32: refused, or within a step."""
    wrong, taken = [], 0
    for number in range(80):
        random = np.random.default_rng([number, 3])
        wide = (40.0 if kind == "mul" else 80.0) if number % 2 else 12.0
        scales = [float(np.float32(s)) for s in np.exp(random.uniform(-wide, wide, 3))]
        zeros = [zero_point(random, "i8") for _ in range(3)]
        graph = pair(kind, "i8", scales, zeros, str(random.choice(list(ACTIVATIONS))))
        if DEVICE.unsupported(graph.ops[0], graph):
            continue
        taken += 1
        if (distance := worst(graph)) > 1:
            wrong.append((number, scales, zeros, distance))
    assert not wrong
    assert taken > 20


def test_large_operands_that_cancel() -> None:
    """The difference of two large numbers is exact though each is thousands of steps."""
    for first, second in ((1.0, 1.0), (1.0, 1.0003), (1.2, 0.77)):
        assert worst(pair("sub", "i8", [first, second, 1 / 500], [0, 0, 0])) <= 1


@pytest.mark.parametrize("block", range(4))
def test_squared_differences(block: int) -> None:
    wrong, taken = [], 0
    for number in range(15):
        random = np.random.default_rng([block, number])
        first = float(np.exp(random.uniform(-6, 0)))
        second = first if random.random() < 0.5 else float(first * np.exp(random.uniform(-2, 2)))
        largest = 255 * max(first, second)
        result = largest**2 / 255 * float(np.exp(random.uniform(-4, 3)))
        zeros = [zero_point(random, "i8") for _ in range(3)]
        b = Builder("squared")
        x, y = (b.input(n, "i8", (1, 4, 4, 16), s, z)
                for n, s, z in zip("xy", (first, second), zeros[:2], strict=True))  # fmt: skip
        b.output(
            b.op(ops.SquaredDifference, a=x, b=y, scale=result, zero_point=zeros[2], name="out")
        )
        (op,) = (graph := b.build()).ops
        if DEVICE.unsupported(op, graph):
            continue
        values = EVERY.view(np.int8).astype(np.int64)
        above, below, chosen, square = passes(graph)
        halves = [passed(one, values[:, None], values[None]) for one in (above, below)]
        distance = passed(chosen, *halves)
        have = passed(square, distance, distance)
        (want,) = op.evaluate(*np.broadcast_arrays(*np.ix_(*[values.astype(np.int8)] * 2)))
        if np.abs(have - want).max() > 1:
            wrong.append((number, first, second, result, zeros, np.abs(have - want).max()))
        taken += 1
    assert not wrong
    assert taken > 5


@pytest.mark.parametrize("kind", ["maximum", "minimum"])
@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_choices_are_exact(kind: str, dtype: str) -> None:
    assert worst(pair(kind, dtype, [0.1, 0.1, 0.1], [3, 3, 3])) == 0


@pytest.mark.parametrize("kind", ["add", "sub"])
def test_a_result_much_finer_than_its_operands(kind: str) -> None:
    (op,) = (graph := pair(kind, "i8", [1.0, 1.0, 1e-4], [0, 0, 0])).ops
    assert DEVICE.unsupported(op, graph) == [
        "operand scale is 1, must be at most 8192 times the result's 0.0001"
    ]


# One operand -------------------------------------------------------------------------------------


def scales_and_zeros(
    random: np.random.Generator, before: str, after: str
) -> tuple[list[float], list[int]]:
    scale = float(np.exp(random.uniform(-6, 1)))
    scales = [scale, float(scale * np.exp(random.uniform(-4, 4)))]
    if random.random() < 0.2:
        scales[1] = scale
    return scales, [zero_point(random, before), zero_point(random, after)]


@pytest.mark.parametrize("kind", ["relu", "relu6", "relu_n1_to_1", "leaky_relu", "abs", "i8", "u8"])
def test_all_values(kind: str) -> None:
    wrong = []
    for number in range(150):
        random = np.random.default_rng([number])
        before = "i8" if kind == "abs" else str(random.choice(["u8", "i8"]))
        quantises = kind in ("i8", "u8")
        how: dict[str, Any] = {}
        if kind == "leaky_relu":
            how["alpha"] = float(random.choice([0.0, 0.01, 0.2, 0.7, 1.0, 1.7, 30.0, -0.5]))
        after = kind if quantises else before
        scales, zeros = scales_and_zeros(random, before, after)
        b = Builder(kind)
        x = b.input("x", before, (1, 4, 4, 16), scales[0], zeros[0])
        how |= {"scale": scales[1], "zero_point": zeros[1], "name": "out"}
        b.output(b.quantize(x, kind, **how) if quantises else getattr(b, kind)(x, **how))
        distance = worst(b.build())
        if distance > 1:
            wrong.append((number, before, scales, zeros, how, distance))
    assert not wrong


def test_from_uint8_to_int8_nothing_changes() -> None:
    b = Builder()
    x = b.input("x", "u8", (1, 4, 4, 16), 0.1, 130)
    b.output(b.quantize(x, "i8", scale=0.1, zero_point=2, name="out"))
    assert worst(b.build()) == 0


KINDS = (
    ops.Relu, ops.Relu6, ops.ReluN1To1, ops.Relu0To1, ops.LeakyRelu, ops.Abs, ops.Quantize,
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_taken_of_one_operand_is_right(kind: type[Op]) -> None:
    """Refused, or within a step, whatever the scales and the slope are."""
    wrong, taken = [], 0
    for number in range(60):
        random = np.random.default_rng([number, 9])
        wide = (3.0, 12.0, 80.0)[number % 3]
        scales = [float(np.float32(s)) for s in np.exp(random.uniform(-wide, wide, 2))]
        zeros = [zero_point(random, "i8") for _ in range(2)]
        how: dict[str, Any] = {"scale": scales[1], "zero_point": zeros[1], "name": "y"}
        if kind is ops.LeakyRelu:
            how["alpha"] = float(random.choice([1e-9, 0.5, 3.0, 200.0, 1000.0, -0.3]))
        b = Builder(kind.mnemonic)
        x = b.input("x", "i8", (1, 4, 4, 16), scales[0], zeros[0])
        b.output(b.op(kind, input=x, **how))
        graph = b.build()
        if DEVICE.unsupported(graph.ops[0], graph):
            continue
        taken += 1
        if (distance := worst(graph)) > 1:
            wrong.append((number, scales, zeros, how, distance))
    assert not wrong
    assert taken > 15
