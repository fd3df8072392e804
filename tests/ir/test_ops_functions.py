"""Functions of one element, quotients, sums and matrix products against the reference kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.ir import Value, ops
from teflon.ir.builder import Builder
from teflon.ir.ops.functions import _erfc
from teflon.ir.types import Quantization
from tests.ir.helpers import BYTES, Maker, run_ops, same
from tests.oracle import needs_oracle

ALL = (2, 128)
"""A shape that holds every 8-bit value once, given in order."""

SEEDS = range(40)
SHAPES = ((7, 5), (1, 7, 1), (2, 7, 5))


def every(b: Maker, dtype: str, quantization: Quantization | None = None) -> Value:
    """Return a tensor that has every 8-bit value: a constant and nothing, joined."""
    values = np.arange(256, dtype=np.uint8).view(f"{'u' if dtype == 'u8' else 'i'}1").reshape(ALL)
    made = quantization or b.quantisation(dtype)
    assert made is not None
    x = b.x(dtype, (1, 128), quantization=made)
    return b.concatenation([b.constant(values, made.scale, made.zero_point), x], axis=0)


TABLES: dict[str, tuple[Callable[[Maker, Value, dict[str, Any]], Value], tuple[str, ...]]] = {
    "ELU": (lambda b, x, how: b.op(ops.Elu, input=x, **how), ("i8",)),
    "GELU": (lambda b, x, how: b.op(ops.Gelu, input=x, **how), BYTES),
    "GELU of tanh": (
        lambda b, x, how: b.op(ops.Gelu, input=x, approximate=True, **how), BYTES,
    ),
    "LOG": (lambda b, x, how: b.op(ops.Log, input=x, **how), ("i8",)),
    "RELU_0_TO_1": (lambda b, x, how: b.op(ops.Relu0To1, input=x, **how), BYTES),
    "NEG": (lambda b, x, how: b.op(ops.Neg, input=x, **how), ("i8",)),
}  # fmt: skip
CASES = [(name, dtype) for name, (_, dtypes) in TABLES.items() for dtype in dtypes]


@needs_oracle
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_every_value(name: str, dtype: str) -> None:
    add, _ = TABLES[name]
    for seed in SEEDS:

        def make(b: Maker) -> Value:
            x = every(b, dtype)
            return add(b, x, b.like(x, b.scale(0.003, 0.3)))

        same(f"{name} {dtype}", make, seed)


@needs_oracle
def test_exp_of_every_value() -> None:
    """The largest exp is below the output's 2**31 steps: beyond, TFLite's result is undefined."""
    for seed in SEEDS:

        def make(b: Maker) -> Value:
            x = every(b, "i8", Quantization.per_tensor(b.scale(0.002, 0.1), b.zero_point("i8")))
            return b.op(ops.Exp, input=x, **b.like(x, b.scale(0.01, 3)))

        same("EXP i8", make, seed)


@needs_oracle
def test_rsqrt_of_every_value() -> None:
    for seed in SEEDS:

        def make(b: Maker) -> Value:
            x = every(b, "i8", Quantization.per_tensor(b.scale(), -128))
            return b.op(ops.Rsqrt, input=x, **b.like(x, b.scale(0.003, 0.1)))

        same("RSQRT i8", make, seed)


@needs_oracle
@pytest.mark.parametrize("dtype", BYTES)
def test_prelu(dtype: str) -> None:
    for seed in SEEDS:

        def make(b: Maker) -> Value:
            x = b.x(dtype, (2, 7, 5, 6))
            shape = [(6,), (5, 6), (1, 1, 6), (2, 7, 5, 6)][int(b.rng.integers(4))]
            alpha = b.constant(b.numbers(dtype, shape), b.scale(0.002, 0.02), b.zero_point(dtype))
            return b.op(ops.Prelu, input=x, alpha=alpha, **b.like(x, x.type.scale))

        same(f"PRELU {dtype}", make, seed)


@needs_oracle
@pytest.mark.parametrize("dtype", BYTES)
def test_div(dtype: str) -> None:
    """Output scales that leave TFLite's shifts within 31 bits."""
    for seed in SEEDS:

        def make(b: Maker) -> Value:
            x, zero = b.x(dtype, (3, 4, 50)), b.zero_point(dtype)
            numbers = b.numbers(dtype, (4, 50))
            numbers[numbers == zero] += -1 if zero == 127 + 128 * (dtype == "u8") else 1
            y = b.constant(numbers, b.scale(), zero)
            return b.op(ops.Div, a=x, b=y, **b.like(x, x.type.scale / y.type.scale / 100))

        same(f"DIV {dtype}", make, seed)


@needs_oracle
def test_squared_difference() -> None:
    for seed in SEEDS:

        def make(b: Maker, shape: tuple[int, ...] = SHAPES[seed % 3]) -> Value:
            x, y = b.x("i8", (2, 7, 5)), b.x("i8", shape)
            reach = max(x.type.scale, y.type.scale)
            return b.op(ops.SquaredDifference, a=x, b=y, **b.like(x, reach * reach * 100))

        same("SQUARED_DIFFERENCE i8", make, seed)


@needs_oracle
def test_batch_matmul() -> None:
    for seed in SEEDS:

        def make(b: Maker) -> Value:
            adj_a, adj_b = (bool(n) for n in b.rng.integers(0, 2, 2))
            x = b.x("i8", (2, 1, 6, 5) if adj_a else (2, 1, 5, 6))
            y = b.x("i8", (3, 4, 6) if adj_b else (3, 6, 4))
            how = b.like(x, x.type.scale * y.type.scale * 200)
            return b.op(ops.BatchMatMul, a=x, b=y, adj_a=adj_a, adj_b=adj_b, **how)

        same("BATCH_MATMUL i8", make, seed)


@needs_oracle
@pytest.mark.parametrize("kind", [ops.Sum, ops.ReduceMax, ops.ReduceMin])
def test_reductions(kind: type[Any]) -> None:
    for seed in SEEDS:

        def make(b: Maker, keep: int = seed % 2) -> Value:
            x = b.x("u8", (2, 5, 7, 6))
            axes = tuple(a for a in range(4) if b.rng.integers(2)) or (3,)
            how = b.like(x, x.type.scale * 9) if kind is ops.Sum else {}
            return b.op(kind, input=x, axes=axes, keep_dims=bool(keep), **how)

        same(f"{kind.tflite_name} u8", make, seed)


def test_sum_of_int8() -> None:
    """The reference resolver's kernel is wrong for int8: real numbers stand in for it."""
    b, rng = Builder("sum"), np.random.default_rng(1)
    x = b.input("x", "i8", (2, 9, 7, 5), 0.05, -7)
    b.output(b.op(ops.Sum, input=x, axes=(1, 2), scale=0.31, zero_point=4))
    array = rng.integers(-128, 128, (2, 9, 7, 5), np.int8)
    (have,) = run_ops(b.build(), [array])
    want = np.clip((array.astype(float) + 7).sum((1, 2)) * 0.05 / 0.31 + 4, -128, 127)
    assert np.abs(have - want).max() <= 0.75  # it rounds twice


def test_the_complementary_error_function() -> None:
    x = np.linspace(-6, 9, 4001).astype(np.float32)
    want = np.array([math.erfc(number) for number in x.tolist()], np.float32)
    assert np.abs(_erfc(x) / want - 1).max() < 2e-7


def test_numbers_beyond_32_bits_saturate() -> None:
    b = Builder("exp")
    x = b.input("x", "i8", (256,), 1.0, 0)
    b.output(b.op(ops.Exp, input=x, scale=1e-3, zero_point=-128))
    (have,) = run_ops(b.build(), [np.arange(-128, 128).astype(np.int8)])
    assert (np.diff(have.astype(int)) >= 0).all()
    assert (have[0], have[-1]) == (-128, 127)
