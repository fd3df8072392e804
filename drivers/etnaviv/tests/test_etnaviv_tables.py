"""Functions of one element on the simulated chips: all 256 values equal to the reference's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teflon.ir import interpreter, ops
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Value
from teflon.ir.types import Activation, Array
from teflon.pipe import Context
from tests.etnaviv.grid import opened
from tests.etnaviv.parity import CHIPS

ALONE: dict[str, Any] = {
    "abs": ops.Abs, "elu": ops.Elu, "exp": ops.Exp, "gelu": ops.Gelu, "hard swish": ops.HardSwish,
    "leaky relu": ops.LeakyRelu, "log": ops.Log, "logistic": ops.Logistic, "neg": ops.Neg,
    "quantize": ops.Quantize, "relu": ops.Relu, "relu 0 to 1": ops.Relu0To1, "relu6": ops.Relu6,
    "relu -1 to 1": ops.ReluN1To1, "rsqrt": ops.Rsqrt, "sqrt": ops.Sqrt, "square": ops.Square,
    "tanh": ops.Tanh,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {"leaky relu": {"alpha": 0.2}, "gelu": {"approximate": True}}
PAIRS: dict[str, Any] = {
    "add": ops.Add, "sub": ops.Sub, "mul": ops.Mul, "div": ops.Div, "maximum": ops.Maximum,
    "minimum": ops.Minimum, "squared difference": ops.SquaredDifference,
}  # fmt: skip
WIRINGS = ("constant first", "constant second", "twice")


@pytest.fixture(scope="module", params=CHIPS)
def context(request: pytest.FixtureRequest) -> Iterator[Context]:
    with opened(request.param) as found:
        yield found


def every_value(value: Value) -> Array:
    """All 256 values, in a tensor of the value's shape."""
    plain = np.arange(256, dtype=np.uint8).view(value.type.dtype.numpy)
    return np.resize(plain, value.shape)


def run(context: Context, graph: Graph) -> tuple[Array, Array]:
    """The chip's results and the reference's for all values."""
    assert [r for op in graph.ops for r in context.device.unsupported(op, graph)] == []
    x = [every_value(value) for value in graph.inputs]
    loaded = context.load(context.device.compile(graph))
    (have,) = context.invoke(loaded, x)
    loaded.close()
    (want,) = interpreter.run(graph, x)
    return have.astype(int), want.astype(int)


def is_refused_as_undefined(context: Context, graph: Graph) -> bool:
    found = [r for op in graph.ops for r in context.device.unsupported(op, graph)]
    undefined = "The function must be defined for these types and scales ("
    return bool(found) and all(reason.startswith(undefined) for reason in found)


scales = st.floats(0.002, 0.2)
zeros = st.integers(-128, 127)
dtypes = st.sampled_from(["u8", "i8"])


def quantization(dtype: str, scale: float, zero: int) -> dict[str, Any]:
    return {"scale": scale, "zero_point": zero + (128 if dtype == "u8" else 0)}


@settings(max_examples=5, deadline=None)
@pytest.mark.parametrize("name", sorted(ALONE))
@given(dtypes, scales, zeros, scales, zeros)
def test_every_value_of_a_function(
    context: Context, name: str, dtype: str, scale: float, zero: int, step: float, out_zero: int
) -> None:
    b = Builder(name)
    fixed = name in ("logistic", "tanh")
    if fixed:  # TFLite asks for this quantisation
        step, out_zero = (1 / 256, -128) if name == "logistic" else (1 / 128, 0)
    if name in ("sqrt", "rsqrt", "log"):
        zero = -128
    x = b.input("x", dtype, (1, 9, 8, 4), **quantization(dtype, scale, zero))
    how = quantization(dtype, step, out_zero)
    b.output(b.op(ALONE[name], input=x, **MORE.get(name, {}), **how))
    graph = b.build()
    if not is_refused_as_undefined(context, graph):
        have, want = run(context, graph)
        np.testing.assert_array_equal(have, want)


@settings(max_examples=8, deadline=None)
@pytest.mark.parametrize("name", sorted(PAIRS))
@given(
    st.sampled_from(WIRINGS), dtypes, scales, zeros, st.integers(0, 255), scales, zeros,
    st.sampled_from(["none", "relu6"]),
)  # fmt: skip
def test_every_value_beside_a_constant(
    context: Context, name: str, wiring: str, dtype: str, scale: float, zero: int, number: int,
    other: float, out_zero: int, activation: str,
) -> None:  # fmt: skip
    b = Builder(name)
    mine = quantization(dtype, scale, zero)
    x = b.input("x", dtype, (1, 4, 4, 16), **mine)
    alike = name in ("maximum", "minimum")
    theirs = mine if alike else quantization(dtype, other, -zero - 1)
    constant = np.array([number], np.uint8).view(x.type.dtype.numpy)
    y = x if wiring == "twice" else b.constant(constant, *theirs.values())
    pair = (y, x) if wiring == "constant first" else (x, y)
    how = mine if alike else quantization(dtype, 2 * max(scale, other), out_zero)
    if name in ("add", "sub", "mul", "div"):
        how["activation"] = Activation(activation)
    b.output(b.op(PAIRS[name], a=pair[0], b=pair[1], **how))
    graph = b.build()
    if not is_refused_as_undefined(context, graph):
        have, want = run(context, graph)
        np.testing.assert_array_equal(have, want)


@settings(max_examples=8, deadline=None)
@given(dtypes, st.integers(0, 2**32))
def test_tables_of_passes(context: Context, dtype: str, seed: int) -> None:
    """Also one without any order: then several tables are added up."""
    random = np.random.default_rng(seed)
    b = Builder("table")
    x = b.input("x", dtype, (1, 5, 9, 7), 0.02, 3)
    entries = random.integers(0, 256, 256).astype(np.uint8).tobytes()
    b.output(b.op(ops.Table, input=x, entries=entries, scale=0.05, zero_point=1))
    have, want = run(context, b.build())
    np.testing.assert_array_equal(have, want)
    assert len(np.unique(have)) > 100


@settings(max_examples=8, deadline=None)
@given(scales, zeros, scales)
def test_silu_is_one_table(context: Context, scale: float, zero: int, step: float) -> None:
    b = Builder("silu")
    x = b.input("x", "i8", (1, 8, 8, 4), scale, zero)
    b.output(b.mul(x, b.logistic(x), scale=step, zero_point=-20))
    graph = b.build()
    for change in context.device.passes():
        graph = change(graph)
    (op,) = graph.ops
    assert isinstance(op, ops.Table)
    assert op.kind_name == "SILU" or step < scale
    have, want = run(context, graph)
    np.testing.assert_array_equal(have, want)


@settings(max_examples=6, deadline=None)
@pytest.mark.parametrize("activation", ["relu", "relu6", "relu_n1_to_1"])
@given(dtypes, st.floats(0.01, 0.1), zeros, st.integers(0, 2**32))
def test_clamps_that_the_nn_cores_do_not_have(
    context: Context, activation: str, dtype: str, step: float, zero: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    how = {**quantization(dtype, step, zero), "activation": activation}
    b = Builder("clamp")
    x = b.input("x", dtype, (1, 4, 4, 16), **quantization(dtype, 0.03, 5))
    low, high = (0, 256) if dtype == "u8" else (-127, 128)
    weights = random.integers(low, high, (9, 1, 1, 16)).astype(x.type.dtype.numpy)
    middle = 128 if dtype == "u8" else 0
    b.output(b.conv2d(x, weights, weight_scale=0.01, weight_zero_point=middle, **how))
    have, want = run(context, b.build())
    assert np.abs(have - want).max() <= 1
    assert have.min() >= want.min()
    assert have.max() <= want.max()


def test_what_has_no_function_is_refused(context: Context) -> None:
    b = Builder("maximum")
    x, y = (b.input(name, "u8", (1, 2, 2, 4), 0.1, 3) for name in "xy")
    b.output(b.op(ops.Maximum, a=x, b=y, scale=0.1, zero_point=3))
    graph = b.build()
    (reason,) = context.device.unsupported(graph.ops[0], graph)
    assert reason == (
        "One operand must be a constant of one number, or both must be the same tensor (operands"
        " are [1, 2, 2, 4] and [1, 2, 2, 4])"
    )


def test_sizes_that_the_tp_cores_do_not_count(context: Context) -> None:
    b = Builder("wide")
    x = b.input("x", "u8", (1, 1, 70000), 0.1, 3)
    b.output(b.relu(x, scale=0.1, zero_point=3))
    graph = b.build()
    (reason,) = context.device.unsupported(graph.ops[0], graph)
    assert reason.startswith("Rows, columns and channels of tensors must be at most 65535")
