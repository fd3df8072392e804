"""What the driver refuses, and in which words; never an exception."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np
import pytest

from teflon.errors import DriverUnavailable, LimitExceeded, OptionError, UnsupportedOperation
from teflon.ir.builder import Builder
from teflon.ir.graph import Graph, Op, Value
from teflon.ir.ops import (
    Add,
    Conv2D,
    FullyConnected,
    Mean,
    Prelu,
    Rsqrt,
    SquaredDifference,
    TransposeConv,
)
from teflon.ir.types import Activation, DType, Padding, Quantization, TensorType
from teflon_rocket.chips import RK3588
from teflon_rocket.device import RocketDevice
from teflon_rocket.exact.rules import RULES
from teflon_rocket.mesa.rules import RULES as MESA
from tests.ir.helpers import SAMPLES, sample
from tests.paths import ROOT
from tests.rocket.refused_moves import REFUSED_MOVES

DEVICE = RocketDevice("rk3588")


def conv(
    size: tuple[int, int] = (8, 8), inside: int = 4, outside: int = 4,
    kernel: tuple[int, int] = (3, 3), **how: object,
) -> Conv2D:  # fmt: skip
    b = Builder()
    x = b.input("x", "u8", (1, *size, inside), 0.1, 3)
    weights = np.zeros((outside, *kernel, inside), np.uint8)
    how = {"scale": 0.3, "zero_point": 5, "name": "y", **how}
    b.output(b.conv2d(x, weights, weight_scale=0.01, **how))  # type: ignore[arg-type]
    op = b.build().ops[0]
    assert isinstance(op, Conv2D)
    return op


def transposed(stride: int, kernel: int) -> TransposeConv:
    b = Builder()
    x = b.input("x", "u8", (1, 4, 4, 3), 0.1, 3)
    size = 3 * stride + kernel
    weights = np.zeros((5, kernel, kernel, 3), np.uint8)
    b.output(b.transpose_conv(x, weights, size=(size, size), stride=stride, padding="valid"))
    op = b.build().ops[0]
    assert isinstance(op, TransposeConv)
    return op


def add(shape: tuple[int, ...] = (1, 2, 2, 3)) -> Add:
    b = Builder()
    x, y = (b.input(n, "u8", shape, 0.1, 3) for n in "xy")
    b.output(b.add(x, y, name="sum", scale=0.2))
    op = b.build().ops[0]
    assert isinstance(op, Add)
    return op


def roots_of_negative_numbers() -> Rsqrt:
    x = Builder().input("x", "i8", (1, 2, 2, 3), 0.1, 3)
    return Rsqrt(input=x, output=dataclasses.replace(x, name="y"))


def over_channels() -> Mean:
    b = Builder()
    b.output(b.mean(b.input("x", "u8", (1, 2, 2, 3), 0.1, 3), (3,)))
    op = b.build().ops[0]
    assert isinstance(op, Mean)
    return op


def changed(value: Value, **how: object) -> Value:
    return dataclasses.replace(value, type=dataclasses.replace(value.type, **how))  # type: ignore[arg-type]


def dense() -> FullyConnected:
    b = Builder()
    x = b.input("x", "u8", (2, 3, 1, 8), 0.1, 3)
    b.output(b.fully_connected(x, np.zeros((4, 24), np.uint8), name="y", scale=0.2))
    op = b.build().ops[0]
    assert isinstance(op, FullyConnected)
    return op


def weight_scales(first: float, last: float) -> Conv2D:
    op = conv()
    scales = Quantization((first, 0.2, 0.3, last), (0, 0, 0, 0), 0)
    return dataclasses.replace(op, weights=changed(op.weights, quantization=scales))


def many_channels() -> Add:
    return add((1, 1, 1, 9000))


def loose_weights() -> Conv2D:
    op = conv()
    return dataclasses.replace(op, weights=dataclasses.replace(op.weights, data=None))


def constant_input() -> Conv2D:
    op = conv()
    data = np.zeros(op.input.shape, np.uint8)
    return dataclasses.replace(op, input=dataclasses.replace(op.input, data=data))


def crosswise() -> Op:
    b = Builder()
    x, y = b.input("x", "u8", (1, 2, 1, 3), 0.1, 3), b.input("y", "u8", (1, 1, 4, 3), 0.1, 3)
    b.output(b.mul(x, y, name="product", scale=0.2))
    return b.build().ops[0]


def coarse_square() -> Op:
    b = Builder()
    x, y = b.input("x", "i8", (1, 2, 2, 3), 0.1, 3), b.input("y", "i8", (1, 2, 2, 3), 0.2, 3)
    b.output(b.op(SquaredDifference, a=x, b=y, scale=0.4, zero_point=-128, name="z"))
    return b.build().ops[0]


def slopes_for_pixels() -> Op:
    b = Builder()
    x = b.input("x", "u8", (1, 2, 2, 3), 0.1, 3)
    alpha = b.constant(np.zeros((1, 2, 2, 3), np.uint8), scale=0.1, zero_point=3, name="alpha")
    b.output(b.op(Prelu, input=x, alpha=alpha, scale=0.1, zero_point=3, name="y"))
    return b.build().ops[0]


def float_input() -> Conv2D:
    op = conv()
    return dataclasses.replace(op, input=changed(op.input, dtype=DType.FLOAT32))


def without_scale() -> Add:
    op = add()
    return dataclasses.replace(op, a=changed(op.a, quantization=None))


def other_weights() -> Conv2D:
    op = conv()
    return dataclasses.replace(op, weights=changed(op.weights, dtype=DType.INT8))


REFUSED: dict[str, tuple[Callable[[], Op], str]] = {
    "eight_bit": (
        float_input,
        "Inputs and outputs must be uint8 or int8, and of one type but where values are converted"
        " (types are f32, u8)",
    ),
    "quantized": (
        without_scale,
        "Inputs and outputs must have one scale and one zero point each ('x' has 0 scales)",
    ),
    "computed": (constant_input, "An input must be computed, not constant ('x' is constant)"),
    "constant_weights": (
        loose_weights, "Weights and bias must be constant ('weights' is computed)"
    ),
    "weights_like_input": (
        other_weights,
        "Weights must have the input's type, the bias int32 (weights are i8, bias is i32)",
    ),
    "weight_scales": (
        lambda: weight_scales(0.01, 0.0),
        "Weights must have a scale, or one for each output channel, all above 0 and finite"
        " (scale is 0.0)",
    ),
    "activation": (
        lambda: dataclasses.replace(conv(), activation=Activation.TANH),
        "A fused activation must be RELU, RELU6 or RELU_N1_TO_1 (activation is TANH)",
    ),
    "kernel": (
        lambda: conv((40, 40), kernel=(32, 1)),
        "Kernels must have at most 31 rows and columns (kernel is 32x1)",
    ),
    "dilation": (
        lambda: conv((40, 40), dilation=(33, 1)),
        "Dilations must be at most 32 (dilation is (33, 1))",
    ),
    "insertions": (
        lambda: transposed(9, 9), "Strides of a transposed convolution must be at most 8"
        " (stride is (9, 9))",
    ),
    "transposed_kernel": (
        lambda: transposed(2, 17),
        "A transposed convolution's kernel, with taps of zero where it is smaller than the stride"
        " or does not reach every output, must have at most 31 rows and columns, and exceed the"
        " padding above and left by at most 15 and 1 (kernel is 17x17, padding is"
        " Padding(top=0, bottom=0, left=0, right=0))",
    ),
    "padding": (
        lambda: dataclasses.replace(conv(), padding=Padding(16, 0, 0, 0)),
        "Padding must be at most 15 above and left of the map"
        " (padding is Padding(top=16, bottom=0, left=0, right=0))",
    ),
    "channels": (
        many_channels, "Feature maps must have at most 8176 channels (9000 channels)"
    ),
    "one_whole": (
        crosswise,
        "A computed operand must have the result's shape, but for channels; the other must have it"
        " too, or be constant, or have 1 image, 1 pixel or 1 channel"
        " (shapes are [1, 2, 1, 3] and [1, 1, 4, 3])",
    ),
    "fine_square": (
        coarse_square,
        "A squared difference must have operands of one scale, or a result of so coarse a scale"
        " that rounding the difference to a byte moves it by less than a step"
        " (scales are 0.1 and 0.2, it moves by 1.16 steps)",
    ),
    "slopes_for_channels": (
        slopes_for_pixels,
        "Slopes must be constant, one or one for each channel ('alpha' is constant [1, 2, 2, 3])",
    ),
    "defined": (
        roots_of_negative_numbers,
        "The function must be defined for these types and scales"
        " (RSQRT 'y': an input is -131 steps, must be 0 or more)",
    ),
    "over_the_map": (
        over_channels,
        "A mean must be over rows, columns or both, and leave the images apart"
        " (axes are [3] of [1, 2, 2, 3], which becomes [1, 2, 2])",
    ),
    "one_matrix": (
        dense,
        "A fully connected layer's rows must be the input's last axis, or the whole input"
        " (weights have 24 columns, the input is [2, 3, 1, 8])",
    ),
}  # fmt: skip
REFUSED |= REFUSED_MOVES


@pytest.mark.parametrize("check", REFUSED)
def test_refusal(check: str) -> None:
    make, message = REFUSED[check]
    op = make()
    assert message in DEVICE.unsupported(op, _alone(op))


def test_every_check_has_a_refusal() -> None:
    assert {check.look.__name__ for _, check in RULES} == set(REFUSED)


def documented() -> set[str]:
    """Names of the operations that docs/supported-ops.md says this driver takes."""
    rows = [line.split(" | ") for line in (ROOT / "docs/supported-ops.md").read_text().splitlines()]
    column = next(row.index("rocket (RK3588)") for row in rows if "rocket (RK3588)" in row)
    return {row[0].strip("| `") for row in rows if len(row) > column and row[column] == "yes"}


def test_what_is_checked_is_what_is_lowered_is_what_is_documented() -> None:
    assert set(RULES.checked) == set(RULES.lowered)
    names = {kind.tflite_name for kind in RULES.lowered}
    assert names - {""} == documented(), "passes make an operation without a name in files"
    assert len(RULES.lowered) >= 4
    assert set(MESA.checked) == set(MESA.lowered) < set(RULES.lowered)


def test_limits_are_the_chips() -> None:
    """In the text and in the decision: another chip has other numbers."""
    small = dataclasses.replace(RK3588, max_dilation=1, max_channels=3)
    op = conv((20, 20), dilation=(2, 1))
    assert RULES.reasons(op, RK3588) == []
    assert RULES.reasons(op, small) == [
        "Feature maps must have at most 3 channels (4 channels)",
        "Dilations must be at most 1 (dilation is (2, 1))",
    ]


def test_every_check_has_a_rule() -> None:
    for _, check in RULES:
        assert "must" in check.rule(RK3588), check.look.__name__


@pytest.mark.parametrize("make", [conv, add])
def test_a_plain_operation_is_taken(make: Callable[[], Op]) -> None:
    op = make()
    assert DEVICE.unsupported(op, _alone(op)) == []


def _alone(op: Op) -> Graph:
    inputs = tuple(v for v in op.inputs_present if not v.is_constant)
    return Graph("alone", inputs, op.results, (op,))


@pytest.mark.parametrize("name", sorted(SAMPLES))
@pytest.mark.parametrize("strategy", ["exact", "mesa"])
def test_every_operation_is_compiled_or_refused(name: str, strategy: str) -> None:
    """Any operation of the IR: `unsupported` says why not, or a program comes out."""
    device = RocketDevice("rk3588", {"strategy": strategy})
    graph = sample(name)
    taken = [op for op in graph.ops if not device.unsupported(op, graph)]
    taken = [op for op in taken if op not in device.veto(graph.subgraph(taken))]
    if taken:
        program = device.compile(graph.subgraph(taken))
        assert program.statistics["tasks"] > 0
    for op in graph.ops:
        if op not in taken:
            assert device.unsupported(op, graph) or device.veto(graph.subgraph([op]))


def test_weights_that_fill_more_than_the_buffer() -> None:
    op = conv((31, 31), 100, 32, (31, 31), padding="same", weight_zero_point=0)
    padded = dataclasses.replace(op, padding=Padding(15, 15, 15, 15))
    reason = (
        "31 rows of 100 channels, or the weights of 16 kernels, do not fit the convolution buffer"
        " of 393216 bytes"
    )
    assert DEVICE.unsupported(padded, _alone(padded)) == [reason]


def test_parts_of_a_kernel_that_lose_too_much() -> None:
    """Every weight is as far from its zero point as can be, and a unit is a large step."""
    op = conv((7, 7), 2000, 32, (7, 7))
    (reason,) = DEVICE.unsupported(op, _alone(op))
    assert reason.startswith("kernel of 98000 bytes is cut into 42 parts, whose sum may be 173.")


def test_biases_that_leave_no_room_for_sums() -> None:
    bias = np.full(4, 2**31 - 1, np.int32)
    op = conv()
    op = dataclasses.replace(op, bias=Value("bias", TensorType(DType.INT32, (4,)), bias))
    (reason,) = DEVICE.unsupported(op, _alone(op))
    assert re.fullmatch(r"accumulator reaches \d+, must fit 32 bits", reason)


def test_an_output_factor_out_of_reach() -> None:
    op = conv(scale=1e-9)
    reason = DEVICE.unsupported(op, _alone(op))
    assert reason == [
        "output factor is 1e+06, must be below 32768 (input scale times weight scale over output"
        " scale)"
    ]


def test_compiling_what_is_refused() -> None:
    op = weight_scales(0.01, float("inf"))
    with pytest.raises(UnsupportedOperation, match=r"^CONV_2D 'y': Weights must have a scale"):
        DEVICE.compile(_alone(op))


def test_mesa_would_split_for_ever() -> None:
    op = conv((56, 56), 512, 64, bias=None, scale=9.0)
    bias = Value("bias", TensorType(DType.INT32, (64,)), np.zeros(64, np.int32))
    op = dataclasses.replace(op, bias=bias, padding=Padding(1, 1, 1, 1), output=conv_output(op))
    assert DEVICE.unsupported(op, _alone(op)) == []
    with pytest.raises(LimitExceeded, match=r"^y: Mesa splits for ever, .*exact can\)$"):
        RocketDevice("rk3588", {"strategy": "mesa"}).compile(_alone(op))


def conv_output(op: Conv2D) -> Value:
    return changed(op.output, shape=(1, 56, 56, 64))


def test_unknown_chip_and_strategy() -> None:
    with pytest.raises(
        DriverUnavailable, match=r"^rocket: chip is 'rk3566', must be one of rk3588$"
    ):
        RocketDevice("rk3566")
    with pytest.raises(
        OptionError,
        match=r"^rocket: strategy is 'exakt', must be one of exact, mesa \(did you mean exact\?\)$",
    ):
        RocketDevice("rk3588", {"strategy": "exakt"})
