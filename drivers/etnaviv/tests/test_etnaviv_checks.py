"""Every limit of strategy `exact`: refused in its words, never by an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from teflon.ir.builder import Builder
from teflon.ir.types import Activation
from teflon_etnaviv.chips import chip
from teflon_etnaviv.exact.rules import RULES
from tests.samples import SAMPLES, sample

Make = Callable[[Builder], None]


def conv(b: Builder, shape: tuple[int, ...] = (1, 8, 8, 16), kernel: int = 1, **how: Any) -> None:
    x = b.input("x", "u8", shape, scale=0.1, zero_point=3)
    weights = b.constant(np.zeros((4, kernel, kernel, shape[3]), np.uint8), 0.1)
    b.output(b.conv2d(x, weights, **how))


CASES: dict[str, tuple[Make, str]] = {
    "dilation": (
        lambda b: conv(b, kernel=3, dilation=(2, 2)),
        "Dilation must be 1 in both directions (dilation is (2, 2))",
    ),
    "stride": (
        lambda b: conv(b, kernel=3, stride=(3, 3)),
        "Strides must be 1 or 2, the same in both directions (stride is (3, 3))",
    ),
    "batch": (
        lambda b: conv(b, (2, 8, 8, 16)),
        "Tensors must hold one image ('x' has a batch of (2,))",
    ),
    "relu6": (
        lambda b: conv(b, activation=Activation.RELU6, scale=0.1, zero_point=0),
        "An activation must let through up to the largest value of its type (clamps at 60 of 255)",
    ),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_limits_are_reasons(case: str) -> None:
    make, text = CASES[case]
    b = Builder("model")
    make(b)
    (op,) = b.build().ops
    assert text in RULES.reasons(op, chip("a311d"))


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_any_operation_gets_an_answer(name: str) -> None:
    for op in sample(name).ops:
        for which in ("a311d", "s905d3", "imx8mp"):
            assert all(isinstance(reason, str) for reason in RULES.reasons(op, chip(which)))


def test_every_check_has_a_rule() -> None:
    assert all(" must " in f" {check.template} " for _, check in RULES)
