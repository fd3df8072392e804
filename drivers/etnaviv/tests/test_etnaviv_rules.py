"""The rules of both strategies: limits are refused in their words, never by an exception."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.types import Activation
from teflon_etnaviv.chips import chip
from teflon_etnaviv.device import EtnavivDevice
from teflon_etnaviv.exact.rules import RULES
from teflon_etnaviv.mesa.limits import LIMITS
from teflon_etnaviv.mesa.rules import RULES as MESA
from tests.ir.helpers import SAMPLES, sample
from tests.paths import ROOT

Make = Callable[[Builder], None]


def conv(b: Builder, shape: tuple[int, ...] = (1, 8, 8, 16), kernel: int = 1, **how: Any) -> None:
    x = b.input("x", "u8", shape, scale=0.1, zero_point=3)
    weights = b.constant(np.zeros((4, kernel, kernel, shape[3]), np.uint8), 0.1)
    b.output(b.conv2d(x, weights, **how))


def summed(b: Builder, *shapes: tuple[int, ...]) -> None:
    x, y = (b.input(f"x{n}", "u8", shape, 0.1, 3) for n, shape in enumerate(shapes))
    b.output(b.add(x, y))


def transposed(b: Builder, kernel: int, stride: int) -> None:
    x = b.input("x", "u8", (1, 4, 4, 3), scale=0.1, zero_point=3)
    weights = b.constant(np.zeros((2, kernel, kernel, 3), np.uint8), 0.1)
    size = (3 * stride + kernel, 3 * stride + kernel)
    b.output(b.transpose_conv(x, weights, size=size, stride=stride, padding="valid"))


CASES: dict[str, tuple[Make, str]] = {
    "planes": (
        lambda b: conv(b, (1, 32, 32, 2048), kernel=3, stride=(4, 4)),
        "Inputs and outputs must have at most 16383 planes; strides, and kernels of more than 11"
        " rows or columns, bring blocks of elements into planes (2048 and 4, kernel is 3x3, stride"
        " is (4, 4))",
    ),
    "batch": (
        lambda b: b.output(b.transpose(b.input("x", "u8", (2, 8, 8, 16), 0.1, 3), (0, 3, 1, 2))),
        "Tensors must hold one image, but those of RESHAPE and FULLY_CONNECTED, and those of"
        " convolutions, poolings, sums, tables, PAD, SPLIT and CONCATENATION, which are repeated"
        " for each image of a batch ('x' has a batch of (2,))",
    ),
    "mean of means": (
        lambda b: b.output(b.mean(b.input("x", "u8", (1, 40, 3, 8), 0.1, 3), (1,), scale=0.05)),
        "Where a mean is taken of blocks first, a step of the input must be worth less than 2 of"
        " the output (it is worth 2)",
    ),
    "mean over the edge": (
        lambda b: b.output(
            b.average_pool2d(b.input("x", "u8", (1, 40, 40, 8), 0.1, 3), 13, padding="same")
        ),
        "Windows of means must have at most 11 rows and columns, or consist of at most that many"
        " blocks of at most that many which strides do not cut; where they reach over the edge, at"
        " most 11 (windows are 13x13, 1x1 apart)",
    ),
    "transposed": (
        lambda b: transposed(b, kernel=12, stride=1),
        "The kernel of a transposed convolution must have at most 11 times as many rows and columns"
        " as its strides, and more than it has padding; maps must be at most 8191 high and wide;"
        " channels, for each place between two inputs, at most 16383 (kernel is 12x12, stride is"
        " 1x1, padding is 0 and 0)",
    ),
    "shapes": (
        lambda b: summed(b, (1, 8, 8, 4), (1, 8, 1, 4)),
        "Operands of a sum must have the result's shape, lack its first axes or have one channel,"
        " with at most 65535 elements and repeated as often at most; or one is a constant, which"
        " may lack its first axes (shapes are [1, 8, 8, 4] and [1, 8, 1, 4])",
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_limits_are_reasons(case: str) -> None:
    make, text = CASES[case]
    b = Builder("model")
    make(b)
    op = b.build().ops[-1]
    assert text in RULES.reasons(op, chip("a311d"))


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_any_operation_gets_an_answer(name: str) -> None:
    for op in sample(name).ops:
        for which in ("a311d", "s905d3", "imx8mp"):
            assert all(isinstance(reason, str) for reason in RULES.reasons(op, chip(which)))


def test_every_check_has_a_rule() -> None:
    for rules in (RULES, MESA):
        assert all(" must " in f" {check.template} " for _, check in rules)


def test_what_is_checked_is_lowered_and_documented() -> None:
    page = (ROOT / "docs" / "supported-ops.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| *(yes|) *\| *(yes|) *\|$", page, re.MULTILINE)
    assert len(rows) > 30
    assert set(RULES.checked) == set(RULES.lowered)
    documented = {name for name, _, etnaviv in rows if etnaviv}
    assert documented == {kind.tflite_name for kind in RULES.lowered} - {""}


@pytest.mark.parametrize(
    ("changes", "shape", "kernel", "text"),
    [
        ({"nn_image_max": 7}, (1, 8, 8, 4), 1, "Maps must be at most 7 high"),
        (
            {"nn_planes_max": 15},
            (1, 8, 8, 16),
            1,
            "outputs must have at most 15 planes; strides, and kernels of more than 11",
        ),
        ({"tp_image_max": 127}, (1, 8, 8, 16), 1, "at most 127 bytes, maps that many rows ('x' is"),
        (
            {"nn_planes_max": 15, "kernel_size_max": 2},
            (1, 8, 8, 4),
            3,
            "kernels of more than 2 rows or columns, bring blocks",
        ),
        (
            {"image_offset_bits": 1, "nn_image_max": 11},
            (1, 8, 8, 4),
            5,
            "Maps must be at most 11 high and wide, with padding where it is more than 1",
        ),
    ],
)
def test_limits_are_those_of_the_chip_s_row(
    changes: dict[str, int], shape: tuple[int, ...], kernel: int, text: str
) -> None:
    about = chip("a311d")
    b = Builder("model")
    conv(b, shape, kernel, padding="same" if kernel > 1 else "valid")
    (op,) = b.build().ops
    assert RULES.reasons(op, about) == []
    (reason,) = RULES.reasons(op, replace(about, **changes))  # type: ignore[arg-type]
    assert text in reason


def moved(make: Callable[[Builder, Any], Any]) -> Make:
    return lambda b: b.output(make(b, b.input("x", "u8", (1, 8, 8, 16), 0.1, 3)))


OF_MESA: dict[str, tuple[Make, str]] = {
    "dilation": (
        lambda b: conv(b, kernel=3, dilation=(2, 2)),
        "Dilation must be 1 in both directions (dilation is (2, 2))",
    ),
    "stride": (
        lambda b: conv(b, kernel=3, stride=(1, 2)),
        "Strides must be 1 or 2, the same in both directions (stride is (1, 2))",
    ),
    "activation": (
        lambda b: conv(b, activation=Activation.RELU_N1_TO_1),
        "An activation must be RELU or RELU6 (activation is RELU_N1_TO_1)",
    ),
    "relu6": (
        lambda b: conv(b, activation=Activation.RELU6, scale=0.1, zero_point=0),
        "An output with RELU6 must have 8 bits that mean at most 6.0 (it reaches 25.5)",
    ),
    "pad": (
        moved(lambda b, x: b.pad(x, (0, 3, 0, 0), (0, 0, 1, 0))),
        "Padding must be at most 2 on each side (pads by 3)",
    ),
    "axis": (
        moved(lambda b, x: b.concatenation([x, x], axis=1)),
        "The axis must be the last one of four (axis is 1 of 4)",
    ),
    "fully connected": (
        lambda b: b.output(
            b.fully_connected(b.input("x", "u8", (1, 1280), 0.1), np.zeros((2, 1280), np.uint8))
        ),
        "A fully connected layer must have fewer than 1280 inputs (it has 1280)",
    ),
    "sum": (
        moved(lambda b, x: b.add(x, b.constant(np.zeros((1, 8, 8, 16), np.uint8), 0.1))),
        "Both operands of a sum must be computed, not constant",
    ),
    "another operation": (
        moved(lambda b, x: b.relu6(x)), "Mesa's driver does not run RELU6",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(OF_MESA))
@pytest.mark.parametrize("name", ["a311d", "s905d3", "imx8mp"])
def test_limits_of_mesa_are_the_same_on_every_chip(case: str, name: str) -> None:
    make, text = OF_MESA[case]
    b = Builder("model")
    make(b)
    graph = b.build()
    (reason,) = EtnavivDevice(name, {"strategy": "mesa"}).unsupported(graph.ops[-1], graph)
    assert reason.startswith(text)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_any_operation_gets_an_answer_of_mesa(name: str) -> None:
    for op in sample(name).ops:
        assert all(isinstance(reason, str) for reason in MESA.reasons(op, LIMITS))
