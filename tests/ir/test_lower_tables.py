"""Chains that become tables: the name, and the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import DType, Graph, Value, ops
from teflon.ir.builder import Builder
from teflon.ir.interpreter import run
from teflon.ir.lower import FoldTables, fold_tables
from tests.ir.helpers import random_inputs

Chain = Callable[[Builder, Value], Value]
SHAPE = (1, 3, 5, 4)
FINE = {"u8": (0.06, 110), "i8": (0.06, -11)}
"""Scale and zero point of the chains' first tensors: about -7 to 8."""


def number(b: Builder, x: Value, real: float) -> Value:
    """Add a constant of one number, as exact as 8 bits allow."""
    whole = np.array(100).astype(x.type.dtype.numpy)
    return b.constant(whole, abs(real) / 100, 0) if real > 0 else b.constant(whole, -real, 101)


def around(x: Value, least: float, most: float) -> dict[str, Any]:
    """Return the quantisation of a result that lies between two numbers."""
    low, high = x.type.dtype.range
    scale = (most - least) / (high - low)
    return {"scale": scale, "zero_point": int(np.clip(round(low - least / scale), low, high))}


def silu(b: Builder, x: Value) -> Value:
    return b.mul(x, b.logistic(x), **around(x, -0.3, 8))


def hard_sigmoid(b: Builder, x: Value) -> Value:
    three = b.add(x, number(b, x, 3), activation="relu6", **around(x, 0, 6))
    return b.mul(three, number(b, x, 1 / 6), **around(x, 0, 1))


def hard_swish(b: Builder, x: Value) -> Value:
    return b.mul(hard_sigmoid(b, x), x, **around(x, -0.4, 8))


def softplus(b: Builder, x: Value) -> Value:
    """In float32: what a converter leaves so is computed so."""
    real = b.dequantize(x)
    one = b.constant(np.array(1, np.float32))
    wide = b.op(ops.Log, input=b.add(b.op(ops.Exp, input=real), one))
    return b.quantize(wide, x.type.dtype.value, **around(x, 0, 8))


def mish(b: Builder, x: Value) -> Value:
    return b.mul(x, b.tanh(softplus(b, x), **around(x, -1, 1)), **around(x, -0.4, 8))


def gelu(b: Builder, x: Value) -> Value:
    """By the error function, beside a QUANTIZE."""
    bent = b.op(ops.Gelu, input=x, **around(x, -0.2, 9))
    return b.quantize(bent, "i8", scale=0.04, zero_point=-100)


FUNCTIONS: dict[str, Chain] = {
    "SILU": silu, "HARD_SIGMOID": hard_sigmoid, "HARD_SWISH": hard_swish, "SOFTPLUS": softplus,
    "MISH": mish, "GELU": gelu,
}  # fmt: skip


def built(chain: Callable[[Builder, Value], Value | tuple[Value, ...]], dtype: str = "i8") -> Graph:
    b = Builder("chain")
    made = chain(b, b.input("x", dtype, SHAPE, *FINE[dtype]))
    b.output(*(made if isinstance(made, tuple) else (made,)))
    return b.build()


def folded(graph: Graph) -> Graph:
    """Return the graph after the pass, verified, and fail unless it computes the same bits."""
    after = fold_tables(graph).verify("fold_tables")
    inputs = random_inputs(graph)
    for have, want in zip(run(after, inputs), run(graph, inputs), strict=True):
        assert np.array_equal(have, want)
    return after


def kinds(graph: Graph) -> list[str]:
    return [op.kind_name for op in graph.ops]


@pytest.mark.parametrize("dtype", ["u8", "i8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_known(name: str, dtype: str) -> None:
    graph = built(FUNCTIONS[name], dtype)
    assert len(graph.ops) > 1
    (table,) = folded(graph).ops
    assert isinstance(table, ops.Table)
    assert table.function == name
    every = np.arange(256, dtype=np.uint8).view(DType(dtype).numpy)
    assert np.array_equal(table.values, table.evaluate(every)[0])


def test_a_chain_like_no_function_has_the_names_of_its_operations() -> None:
    graph = built(lambda b, x: b.tanh(b.leaky_relu(x, -0.5)))
    assert kinds(folded(graph)) == ["LEAKY_RELU+TANH"]


def test_the_preparation_of_a_picture_is_one_table() -> None:
    """Pixels without a scale, and means that are the same number for each channel."""
    b = Builder("pixels")
    x = b.input("x", "u8", (1, 5, 4, 3))
    real = b.op(ops.Cast, input=x, dtype="f32")
    steps = b.quantize(real, "i8", scale=1.0, zero_point=-128)
    means = b.constant(np.full((1, 1, 1, 3), 77, np.int8), 1.6, 0)
    even = b.sub(steps, means, scale=1.0, zero_point=-5)
    b.output(b.mul(even, b.constant(np.array(127, np.int8), 1e-4, 0), scale=0.013, zero_point=-5))
    (table,) = folded(b.build()).ops
    assert table.kind_name == "CAST+QUANTIZE+SUB+MUL"


def test_two_chains_that_meet_are_two_tables_and_a_product() -> None:
    def gates(b: Builder, x: Value) -> Value:
        y = b.input("y", "i8", SHAPE, *FINE["i8"])
        return b.mul(silu(b, x), hard_sigmoid(b, y), scale=0.03, zero_point=0)

    assert kinds(folded(built(gates))) == ["SILU", "HARD_SIGMOID", "MUL"]


def test_what_others_read_stays() -> None:
    """The gate is an output: nothing is gained by a table for what is one operation from there."""

    def seen(b: Builder, x: Value) -> tuple[Value, ...]:
        gate = b.logistic(x)
        return gate, b.mul(x, gate, scale=0.04, zero_point=-100)

    graph = built(seen)
    assert fold_tables(graph) is graph


def test_a_tensor_in_the_middle_that_others_read_ends_a_chain() -> None:
    def seen(b: Builder, x: Value) -> tuple[Value, ...]:
        middle = hard_sigmoid(b, x)
        return b.max_pool2d(middle, 2), b.tanh(b.logistic(middle))

    assert kinds(folded(built(seen))) == ["HARD_SIGMOID", "MAX_POOL_2D", "LOGISTIC+TANH"]


@pytest.mark.parametrize(
    "chain",
    [
        lambda b, x: b.logistic(x),
        lambda b, x: b.logistic(b.add(x, b.constant(np.arange(4, dtype=np.int8), 0.1, 0))),
        lambda b, x: b.dequantize(b.logistic(x)),
        lambda b, x: b.logistic(b.op(ops.Rsqrt, input=x, scale=0.02)),
        lambda b, x: b.tanh(b.max_pool2d(b.logistic(x), 2)),
        lambda b, x: b.add(b.logistic(x), b.constant(np.ones((3, 1, 1, 1), np.int8), 0.1, 0)),
    ],
    ids=["one", "per_channel", "to_float", "not_of_all_values", "neighbours", "grows"],
)  # fmt: skip
def test_no_chain(chain: Chain) -> None:
    graph = built(chain)
    assert fold_tables(graph) is graph


def test_the_device_may_refuse() -> None:
    graph = built(silu)
    asked: list[str] = []

    def accepts(table: ops.Table) -> bool:
        asked.append(table.function)
        return False

    assert FoldTables(accepts)(graph) is graph
    assert asked == ["SILU"]


def test_real_numbers_that_others_read_are_computed_of_a_table() -> None:
    def chain(b: Builder, x: Value) -> Value:
        y = b.dequantize(b.input("y", "i8", SHAPE, *FINE["i8"]))
        real = b.op(ops.Sqrt, input=b.op(ops.Exp, input=b.dequantize(silu(b, x))))
        return b.op(ops.Div, a=real, b=b.op(ops.Exp, input=y))

    assert kinds(folded(built(chain))) == ["DEQUANTIZE", "SILU", "DEQUANTIZE", "EXP", "SQRT", "EXP",
                                           "DIV"]  # fmt: skip


def test_the_end_of_a_chain_that_the_device_does_not_want() -> None:
    """The longest one that it takes; what reads the first tensor again is no end."""

    def chain(b: Builder, x: Value) -> Value:
        return b.tanh(b.relu6(silu(b, b.leaky_relu(x, 0.2))))

    asked: list[str] = []

    def accepts(table: ops.Table) -> bool:
        asked.append(table.function)
        return not table.function.startswith("LEAKY")

    graph = built(chain)
    after = FoldTables(accepts)(graph).verify()
    assert kinds(after) == ["LEAKY_RELU", "LOGISTIC+MUL+RELU6+TANH"]
    assert asked == ["LEAKY_RELU+LOGISTIC+MUL+RELU6+TANH", "LOGISTIC+MUL+RELU6+TANH"]
    inputs = random_inputs(graph)
    assert np.array_equal(run(after, inputs)[0], run(graph, inputs)[0])


UNARY: tuple[Chain, ...] = (
    lambda b, x: b.relu(x, scale=0.05, zero_point=3),
    lambda b, x: b.relu6(x),
    lambda b, x: b.leaky_relu(x, 0.2, scale=0.04),
    lambda b, x: b.hard_swish(x, scale=0.05),
    lambda b, x: b.logistic(x),
    lambda b, x: b.tanh(x),
    lambda b, x: b.mul(x, x, scale=0.3),
    lambda b, x: b.sub(number(b, x, 2.0), x, scale=0.07),
    lambda b, x: b.maximum(x, b.constant(np.array(9, x.type.dtype.numpy), x.type.scale,
                                         x.type.zero_point)),
    lambda b, x: b.quantize(b.dequantize(x), x.type.dtype.value, scale=0.03, zero_point=5),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, len(UNARY) - 1), min_size=2, max_size=6), st.sampled_from(["u8", "i8"])
)
def test_any_chain_keeps_its_bits(steps: list[int], dtype: str) -> None:
    def chain(b: Builder, x: Value) -> Value:
        for step in steps:
            x = UNARY[step](b, x)
        return x

    assert [type(op) for op in folded(built(chain, dtype)).ops] == [ops.Table]


def test_bad_tables_are_refused() -> None:
    x, y = built(lambda b, x: b.relu(x)).ops[0], b"\0" * 255
    assert isinstance(x, ops.Relu)
    assert ops.Table(input=x.input, output=x.output, entries=y).verify() == [
        "has 255 entries, must have 256"
    ]
