"""Arithmetic, activations, pooling, quantisation against the reference kernels."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from teflon.ir import Value
from teflon.ir.ops import elementwise
from teflon.ir.types import Quantization
from tests.ir.helpers import BYTES, REAL, Maker, same
from tests.oracle import needs_oracle

pytestmark = needs_oracle

ACTIVATIONS = ["none", "relu", "relu6", "relu_n1_to_1"]
SHAPES = [
    ((1, 4, 5, 3), (1, 4, 5, 3)),
    ((2, 3, 4, 5), (1, 1, 1, 5)),
    ((1, 1, 1, 7), (1, 6, 5, 7)),
    ((3, 4), (4,)),
    ((2, 3, 1), (1, 3, 4)),
    ((5,), ()),
]


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("dtype", [*BYTES, "i16", REAL, "i32"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_arithmetic(op: str, dtype: str, activation: str) -> None:
    if (op, dtype) == ("sub", "i32"):  # TFLite refuses an activation there
        activation = "none"
    for seed, ((first, second), ratio) in enumerate(
        itertools.product(SHAPES, [0.02, 0.3, 1.0, 1.9, 40.0])
    ):

        def make(
            b: Maker, first: tuple[int, ...] = first, second: tuple[int, ...] = second,
            ratio: float = ratio,
        ) -> Value:  # fmt: skip
            one, two = b.x(dtype, first), b.x(dtype, second)
            reach = one.type.scale * two.type.scale * 100 if op == "mul" else one.type.scale
            how: dict[str, Any] = b.like(one, reach * ratio) if one.type.quantization else {}
            result: Value = getattr(b, op)(one, two, activation=activation, **how)
            return result

        same(f"{op} {dtype}", make, seed)


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("dtype", BYTES)
def test_arithmetic_with_itself_and_constants(op: str, dtype: str) -> None:
    def make(b: Maker) -> list[Value]:
        x = b.x(dtype, (2, 40))
        c = b.constant(b.numbers(dtype, (40,)), b.scale(), b.zero_point(dtype))
        how = b.like(x, x.type.scale * (c.type.scale * 90 if op == "mul" else 1.5))
        binary = getattr(b, op)
        return [binary(x, x, **how), binary(x, c, **how), binary(c, x, **how)]

    for seed in range(10):
        same(f"{op} {dtype}", make, seed)


@pytest.mark.parametrize("op", ["add", "sub", "mul"])
@pytest.mark.parametrize("dtype", BYTES)
def test_arithmetic_of_large_tensors_by_table(op: str, dtype: str) -> None:
    shapes = [((1, 190, 180, 1), (1, 190, 180, 1)), ((8,), (5, 1000, 8)), ((1, 200, 170, 1), ())]
    for seed, ((first, second), ratio) in enumerate(itertools.product(shapes, [0.3, 1.0, 1.9])):

        def make(
            b: Maker, first: tuple[int, ...] = first, second: tuple[int, ...] = second,
            ratio: float = ratio,
        ) -> Value:  # fmt: skip
            one, two = b.x(dtype, first), b.x(dtype, second)
            reach = one.type.scale * two.type.scale * 100 if op == "mul" else one.type.scale
            result: Value = getattr(b, op)(one, two, **b.like(one, reach * ratio))
            assert result.type.size >= elementwise._WORTH_TABLE
            return result

        same(f"{op} {dtype}", make, seed)


@pytest.mark.parametrize("op", ["maximum", "minimum"])
@pytest.mark.parametrize("dtype", [*BYTES, "i16", "i32", REAL])
def test_choice(op: str, dtype: str) -> None:
    for seed, (first, second) in enumerate(SHAPES):

        def make(
            b: Maker, first: tuple[int, ...] = first, second: tuple[int, ...] = second
        ) -> Value:
            one = b.x(dtype, first)
            two = b.x(dtype, second, quantization=one.type.quantization)
            result: Value = getattr(b, op)(one, two)
            return result

        same(f"{op} {dtype}", make, seed)


def test_numbers_without_dimensions() -> None:
    """A shape of () stays an array."""
    binary = ["add", "sub", "mul", "maximum"]
    unary = ["relu", "leaky_relu", "hard_swish", "logistic", "tanh"]
    for seed, dtype in enumerate([*BYTES, REAL]):

        def make(b: Maker, dtype: str = dtype) -> list[Value]:
            x = b.x(dtype, ())
            return [getattr(b, n)(x, x) for n in binary] + [getattr(b, n)(x) for n in unary]

        same("without dimensions", make, seed, tolerance=1e-6 if dtype == REAL else 0)


UNARY = ["relu", "relu6", "relu_n1_to_1", "leaky_relu", "hard_swish", "logistic", "tanh",
         "softmax", "abs"]  # fmt: skip


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("dtype", [*BYTES, REAL])
def test_unary(op: str, dtype: str) -> None:
    if (op, dtype) == ("abs", "u8"):  # TFLite has no such kernel
        dtype = "i8"
    for seed in range(60):

        def make(b: Maker, seed: int = seed) -> Value:
            b.spread = 4.0
            x = b.x(dtype, (3, 1, 2, 257), scale=b.scale(0.002, 0.3))
            how: dict[str, Any] = {}
            if op in ("relu", "relu6", "relu_n1_to_1", "leaky_relu", "hard_swish", "abs", "tanh"):
                how = b.like(x, x.type.scale) if seed % 3 else {"quantization": x.type.quantization}
            if op == "tanh":
                how = b.like(x, 1 / 128) if seed % 2 else {}
            if op == "hard_swish":  # TFLite wants the output's scale above 1/128 of the input's
                how = b.like(x, x.type.scale * b.rng.choice([0.02, 0.5, 1.0, 20.0]))
            if op == "leaky_relu":
                how["alpha"] = float(b.rng.choice([0.01, 0.1, 0.3, 1.0, 1.5]))
            if op == "softmax":
                how["beta"] = float(b.rng.choice([0.2, 1.0, 1.0, 3.0]))
            result: Value = getattr(b, op)(x, **how)
            return result

        exact = dtype != REAL or op in ("relu", "relu6", "relu_n1_to_1", "leaky_relu", "abs")
        same(f"{op} {dtype}", make, seed, tolerance=0 if exact else 3e-7)


@pytest.mark.parametrize("op", ["relu", "relu6", "leaky_relu", "abs"])
def test_unary_int16(op: str) -> None:
    def make(b: Maker) -> Value:
        x = b.x("i16", (2, 500))
        result: Value = getattr(b, op)(x, **b.like(x, x.type.scale))
        return result

    for seed in range(8):
        same(f"{op} i16", make, seed)


@pytest.mark.parametrize("dtype", BYTES)
def test_softmax_of_many_shapes(dtype: str) -> None:
    shapes: list[tuple[int, ...]] = [(1,), (7,), (1, 1001), (2, 3, 5), (1, 2, 2, 90)]
    for seed, (shape, scale) in enumerate(
        itertools.product(shapes, [0.0001, 0.01, 0.1, 0.6, 2.0, 30.0])
    ):
        if shape[-1] > 256 and scale < 0.1:
            continue  # a sum of exponents above 256 aborts TFLite's process

        def make(b: Maker, shape: tuple[int, ...] = shape, scale: float = scale) -> Value:
            return b.softmax(b.x(dtype, shape, scale=scale))

        same(f"softmax {dtype}", make, seed)


@pytest.mark.parametrize("op", ["average_pool2d", "max_pool2d"])
@pytest.mark.parametrize("dtype", [*BYTES, "i16", REAL])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_pools(op: str, dtype: str, activation: str, padding: str) -> None:
    kernels = [(1, 1), (2, 2), (3, 3), (7, 7), (1, 4), (5, 2)]
    strides = [(1, 1), (2, 2), (3, 1)]
    for seed, (kernel, stride) in enumerate(itertools.product(kernels, strides)):

        def make(
            b: Maker, kernel: tuple[int, int] = kernel, stride: tuple[int, int] = stride
        ) -> Value:
            x = b.x(dtype, (2, 9, 8, 5))
            how: Any = {"stride": stride, "padding": padding, "activation": activation}
            result: Value = getattr(b, op)(x, kernel, **how)
            return result

        same(f"{op} {dtype}", make, seed)


@pytest.mark.parametrize("dtype", [*BYTES, "i16", "i32", REAL])
@pytest.mark.parametrize("keep_dims", [False, True])
def test_mean(dtype: str, keep_dims: bool) -> None:
    cases: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((1, 7, 7, 20), (1, 2)), ((2, 3, 4, 5), (3,)), ((2, 3, 4, 5), (0, 2)), ((6, 50), (1,)),
        ((3, 4, 5), (0, 1, 2)), ((1, 56, 40, 3), (1, 2)), ((2, 1, 1, 3), (1, 2)), ((9,), (0,)),
    ]  # fmt: skip
    for seed, ((shape, axes), ratio) in enumerate(itertools.product(cases, [1.0, 0.2, 7.0])):

        def make(
            b: Maker, shape: tuple[int, ...] = shape, axes: tuple[int, ...] = axes,
            ratio: float = ratio,
        ) -> Value:  # fmt: skip
            x = b.x(dtype, shape)
            same_scale = ratio == 1.0 or x.type.quantization is None
            how: Any = {} if same_scale else b.like(x, x.type.scale * ratio)
            return b.mean(x, axes, keep_dims, **how)

        same(f"mean {dtype}", make, seed)


REQUANTISED = [
    (x, y) for x in BYTES for y in ("u8", "i8", "i16")
] + [("i16", "i8"), ("i16", "i16"), ("i32", "i8"), ("i32", "i16"), ("i16", "i32")]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), REQUANTISED)
def test_requantise(source: str, target: str) -> None:
    for seed, ratio in enumerate([1.0, 0.5, 1.3, 0.01, 90.0, 1.0, 0.7, 2.0]):

        def make(b: Maker, ratio: float = ratio, seed: int = seed) -> Value:
            scale = 0.02 if source != "i32" else 0.02 / 2**20
            quantization = Quantization.per_tensor(scale, b.zero_point(source))
            x = b.x(source, (3, 200), quantization=quantization)
            to = Quantization.per_tensor(0.02 * ratio, b.zero_point(target))
            return b.quantize(x, target, quantization=to)

        same(f"quantize {source} {target}", make, seed)


def test_requantise_between_signed_and_unsigned() -> None:
    """Equal scales, zero points 128 apart: TFLite flips one bit."""
    for source, target, shift in (("i8", "u8", 128), ("u8", "i8", -128)):

        def make(b: Maker, source: str = source, target: str = target, shift: int = shift) -> Value:
            x = b.x(source, (256,))
            to = Quantization.per_tensor(x.type.scale, x.type.zero_point + shift)
            return b.quantize(x, target, quantization=to)

        same(f"quantize {source} {target}", make, 3)


@pytest.mark.parametrize("dtype", [*BYTES, "i16"])
def test_quantise_and_dequantise(dtype: str) -> None:
    for seed in range(10):

        def quantise(b: Maker) -> Value:
            b.spread = 8.0
            to = b.quantisation(dtype)
            return b.quantize(b.x(REAL, (3, 300)), dtype, quantization=to)

        same(f"quantize f32 {dtype}", quantise, seed)
        same(f"dequantize {dtype}", lambda b: b.dequantize(b.x(dtype, (3, 300))), seed)


@pytest.mark.parametrize("dtype", BYTES)
def test_quantise_halves(dtype: str) -> None:
    """Quotients that lie on a half round away from zero."""

    def make(b: Maker) -> list[Value]:
        x = b.x("i16", (2000,), quantization=Quantization.per_tensor(0.125))
        to = Quantization.per_tensor(0.25, b.zero_point(dtype))
        return [b.quantize(b.dequantize(x), dtype, quantization=to)]

    same(f"quantize f32 {dtype}", make, 0)


@pytest.mark.parametrize("op", ["resize_nearest_neighbor", "resize_bilinear"])
@pytest.mark.parametrize("dtype", [*BYTES, "i16", REAL])
@pytest.mark.parametrize("mode", ["plain", "align_corners", "half_pixel_centers"])
def test_resize(op: str, dtype: str, mode: str) -> None:
    sizes = [((4, 5), (8, 10)), ((7, 9), (3, 4)), ((5, 5), (13, 17)), ((1, 1), (4, 4)),
             ((6, 3), (1, 1)), ((10, 8), (10, 8)), ((3, 11), (20, 2))]  # fmt: skip
    for seed, (source, target) in enumerate(sizes):

        def make(
            b: Maker, source: tuple[int, int] = source, target: tuple[int, int] = target
        ) -> Value:
            x = b.x(dtype, (2, *source, 3))
            how = {} if mode == "plain" else {mode: True}
            result: Value = getattr(b, op)(x, target, **how)
            return result

        bilinear = op == "resize_bilinear" and dtype == REAL
        same(f"{op} {dtype}", make, seed, tolerance=1e-6 if bilinear else 0)
